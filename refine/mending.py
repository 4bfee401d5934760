"""Repairs, one after the other: the cheapest that the critique calls for, judged anew, kept or rolled back.

Repairs without diffusion cost next to nothing: they are no rounds, and when they do not help that ends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from editcritic.refine.acceptance import Verdict, both_agree, is_better, is_worse, reaches
from editcritic.refine.critic import EditJudge
from editcritic.refine.diagnose import action_key, is_costly, plan_actions, reason_for
from editcritic.refine.diagnosis import Diagnosis, default_diagnosis
from editcritic.refine.drift import find_drift
from editcritic.refine.repair import REPAIRS, Repair, Workpiece, carry_out
from editcritic.refine.reprompt import Rewriter
from editcritic.refine.run import Made, Run, Steps
from editcritic.refine.sampling import ask, finish
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import EditCriticError

__all__ = ["Mending"]

_MAX_ROLL_BACKS = 2  # in a row, of repairs that cost denoising steps
_MAX_FREE = 3  # in a row, of those that do not
_MAX_REPAIRS = 24


class Mending:
    """The repair rounds of a run; `run.best` is what they start from and where they leave the outcome.

    Args:
        run: the run. judge: the critic that steers. other: the acceptance critic, or the same.
        rewriter: words prompts anew, or None for the rules.
        diagnosis: which fault calls for which repair; None for the package's own table.
        is_worth_another: of a score, whether another seed may be tried where no fault asks for one.
    """

    def __init__(
        self,
        run: Run,
        judge: EditJudge,
        other: EditJudge,
        rewriter: Rewriter | None,
        diagnosis: Diagnosis | None,
        is_worth_another: Callable[[float], bool] = lambda _best: True,
    ) -> None:
        self._run, self._judge, self._other, self._rewriter = run, judge, other, rewriter
        self._diagnosis = diagnosis or default_diagnosis()
        self._is_worth_another = is_worth_another
        self._mask_area = int((run.mask > 0.5).sum())
        self._tried: set[Any] = set()
        self._attempts: Counter[int] = Counter()
        self._number = self._free = 0

    def steps(self, best: Made) -> Steps:
        """Events until there is nothing left to do; returns why. Raises: Stop when the budget ends it earlier."""
        run, rounds, roll_backs = self._run, 0, 0
        while rounds < run.request.budget.repair_round_count and self._number < _MAX_REPAIRS:
            if reaches(best.critique, run.request.budget.target_score):
                break
            run.check_cancelled()
            run.check_time()
            action, repair = self._choose(best)
            if action is None or repair is None:
                return refine_pb2.STOP_REASON_NO_ACTION_LEFT
            costs = repair.candidate is not None
            if costs:
                run.check_budget()
            after = yield from self._carry_out(best, action, repair)
            self._free = 0 if costs or after else self._free + 1
            rounds += costs
            roll_backs = 0 if after else roll_backs + costs
            best = run.best = after or best
            if roll_backs == _MAX_ROLL_BACKS:
                return refine_pb2.STOP_REASON_NO_GAIN
        if not reaches(best.critique, run.request.budget.target_score):
            return refine_pb2.STOP_REASON_BUDGET_SPENT
        reason = f"overall {best.critique.scores.overall.value:.1f} reaches the target"
        yield run.decide(refine_pb2.DECISION_KIND_ACCEPT, best, reason)
        return refine_pb2.STOP_REASON_TARGET_REACHED

    def free_steps(self, best: Made) -> Steps:
        """Events of the repairs that cost no denoising; returns what they make of an edit, perhaps itself.

        Raises: Stop when the caller has asked for it.
        """
        self._tried, self._free = set(), 0
        while self._number < _MAX_REPAIRS:
            self._run.check_cancelled()
            action, repair = self._choose(best, is_free=True)
            if action is None or repair is None:
                break
            after = yield from self._carry_out(best, action, repair)
            self._free = 0 if after else self._free + 1
            best = after or best
        self._attempts, self._free = Counter(), 0
        return best

    def _choose(
        self, best: Made, is_free: bool = False
    ) -> tuple[pb.SuggestedAction, Repair] | tuple[None, None]:
        """The cheapest action that was not tried on this edit and that the engine can carry out."""
        for action in plan_actions(best.critique, self._mask_area, self._diagnosis):
            if action_key(action) in self._tried:
                continue
            if is_free and is_costly(action):
                continue
            if self._is_idle(best, action):
                continue
            self._tried.add(action_key(action))
            try:
                repair = REPAIRS[action.kind](self._workpiece(best, action), action)
            except EditCriticError:
                continue  # an engine that refuses one repair does not end the run
            if repair is not None and (repair.candidate is not None or self._free < _MAX_FREE):
                return action, repair
        return None, None

    def _is_idle(self, best: Made, action: pb.SuggestedAction) -> bool:
        """Whether it is a reroll that no fault asks for and that promises too little."""
        if action.kind != pb.ACTION_KIND_REROLL:
            return False
        reason = reason_for(best.critique, action, self._mask_area, self._diagnosis)
        return not reason and not self._is_worth_another(best.critique.scores.overall.value)

    def _workpiece(self, best: Made, action: pb.SuggestedAction) -> Workpiece:
        run = self._run
        work = Workpiece(
            run.engine,
            run.source,
            best.picture,
            run.mask,
            run.blend,
            best.prompt,
            seed=self._seed,
            attempt=self._attempts[action.kind],
            options=run.options,
            critique=best.critique,
            wish=run.edit.prompt,
            rewriter=self._rewriter,
        )
        self._attempts[action.kind] += 1
        return work

    @property
    def _seed(self) -> int:
        """Of the next repair; first answers have those before."""
        sampling = self._run.request.sampling
        return sampling.seed + sampling.candidate_count + self._number

    def _carry_out(self, before: Made, action: pb.SuggestedAction, repair: Repair) -> Steps:
        """Make it, judge it; returns the new edit when it is kept, else None."""
        run, seed, name = self._run, self._seed, f"repair-{self._number + 1}"
        self._number += 1
        why = repair.reason or self._why(before.critique, action)
        yield run.decide(refine_pb2.DECISION_KIND_REPAIR, before, why, action)
        started = refine_pb2.CandidateStarted(
            candidate_id=name, seed=seed, parent_candidate_id=before.candidate_id, action=action.kind
        )
        yield run.record("candidate_started", started)
        make = partial(carry_out, repair, name, run.source, run.blend)
        try:
            made = yield from finish(run, self._judge, name, make, repair.prompt or before.prompt)
        finally:
            if repair.candidate is not None:
                repair.candidate.drop()
        verdict = yield from self._verdict(before, made)
        if not verdict.keep:
            yield run.decide(refine_pb2.DECISION_KIND_ROLL_BACK, before, verdict.reason)
            return None
        self._tried = set()
        yield run.decide(refine_pb2.DECISION_KIND_KEEP, made, verdict.reason)
        return made

    def _verdict(self, before: Made, made: Made | None) -> Steps:
        """Whether a repair is kept; asks the acceptance critic only about what the other does not refuse."""
        if made is None:
            return Verdict(False, "the repair failed")
        drift = find_drift(self._run.source, before.picture, made.picture, self._run.mask)
        if drift:
            return Verdict(False, drift)
        if self._other is self._judge:
            return is_better(before.critique, made.critique)
        if is_worse(before.critique, made.critique):
            return Verdict(False, is_worse(before.critique, made.critique))
        for each in (before, made):
            yield from ask(self._run, self._other, each)
        if before.held_out is None or made.held_out is None:
            return Verdict(False, "the acceptance critic could not judge it")
        return both_agree((before.critique, made.critique), (before.held_out, made.held_out))

    def _why(self, critique: pb.Critique, action: pb.SuggestedAction) -> str:
        """The fault that asked for this action, in the critic's words."""
        told = reason_for(critique, action, self._mask_area, self._diagnosis)
        overall = critique.scores.overall.value
        return told or f"overall {overall:.1f} is below the target, and no cheaper repair is left"
