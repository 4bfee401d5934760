"""The loop on one page: sample, select, then accept, or diagnose and repair, until the budget is spent.

::

    for event in Refinement(engine, critic, completed_request(request), journal).run():
        ...                                   # previews, critiques, decisions; the last one is the result

A run is a function of its request, its engine and its critic, and every step's outcome is journaled before the next
step starts; so a run that was killed is resumed by running it again. What it hands back never has a lower score than
what the first seed alone gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from editcritic.refine.acceptance import is_better, lower_bound, reaches, scored
from editcritic.refine.critic import Critic, EditJudge
from editcritic.refine.diagnose import action_key, plan_actions
from editcritic.refine.engine import Engine
from editcritic.refine.journal import Journal
from editcritic.refine.known_previews import known_table, pairing
from editcritic.refine.preview_table import Group, PreviewTable, table_from_message
from editcritic.refine.race import Race
from editcritic.refine.recorder import Event
from editcritic.refine.repair import REPAIRS, Repair, Workpiece, carry_out
from editcritic.refine.request import race_options
from editcritic.refine.run import Made, Run, Steps, Stop
from editcritic.refine.sampling import Racing, finish
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import EditCriticError
from editcritic.v1.images import encode_image

__all__ = ["Refinement"]

_MAX_ROLL_BACKS = 2  # in a row


class Refinement:
    """One run of the loop.

    Args:
        engine: produces candidates. critic: steers the search.
        request: as `completed_request` gives it. journal: where the run is kept; None keeps nothing. The same
            request goes on where it stopped.
        acceptance: decides whether repairs are kept; by default the critic itself.

    Raises: InvalidInput when the journal has an edit of that name that asked for something else.
    """

    def __init__(
        self,
        engine: Engine,
        critic: Critic,
        request: refine_pb2.RefineRequest,
        journal: Journal | None = None,
        acceptance: Critic | None = None,
    ) -> None:
        self._critic, self._acceptance, self._journal = critic, acceptance, journal
        self._run = Run(engine, request, journal)
        self._learned: Group | None = None
        self._saved = 0
        self._tried: set[Any] = set()
        self._attempts: Counter[int] = Counter()

    def cancel(self) -> None:
        """Stop after the step that is running; the run ends with the best edit so far. Safe from any thread."""
        self._run.cancelled.set()

    def run(self) -> Iterator[Event]:
        """The events of the run, in order; the last one is the result.

        Raises: EditCriticError when the critic refuses the edit or cannot be reached, or the engine refuses it.
        """
        with self._critic.open(self._run.edit) as judge:
            if self._acceptance is None:
                yield from self._steps(judge, judge)
                return
            with self._acceptance.open(self._run.edit) as other:
                yield from self._steps(judge, other)

    def _steps(self, judge: EditJudge, other: EditJudge) -> Steps:
        run = self._run
        started = run.record("started", self._started(judge, other))
        yield started
        try:
            # Of the event, not of the journal: a resumed run must decide by the table that it began with.
            yield from self._sample(judge, table_from_message(started.started.preview_table))
            yield from self._select(judge, other)
            reason = yield from self._mend(other)
        except Stop as stop:
            reason = stop.reason
        # A cancelled run can be resumed, so its end is not the end.
        transient = reason == refine_pb2.STOP_REASON_CANCELLED
        yield run.recorder.next("result", partial(self._result, reason), transient=transient)
        if self._journal is not None and self._learned is not None:
            name = pairing(started.started.engine, started.started.search_critic)
            self._journal.keep_previews(run.edit.edit_id, name, self._learned)

    def _sample(self, judge: EditJudge, table: PreviewTable) -> Steps:
        """First answers, raced against each other; the best by its lower bound leads."""
        run, sampling = self._run, self._run.request.sampling
        seeds = {
            f"seed-{seed}": seed for seed in range(sampling.seed, sampling.seed + sampling.candidate_count)
        }
        race = Race(list(seeds), table, race_options(run.request.race), sampling.seed)
        racing = Racing(run, judge, race, seeds)
        try:
            yield from racing.steps()
        finally:
            run.best = max(run.made, key=lambda each: lower_bound(each.critique), default=None)
        self._learned, self._saved = racing.group(), racing.saved_steps()

    def _select(self, judge: EditJudge, other: EditJudge) -> Steps:
        """Name the leader, and let the acceptance critic see it and the plain answer."""
        run = self._run
        if run.best is None:
            raise Stop(refine_pb2.STOP_REASON_FAILED)
        overall = run.best.critique.scores.overall
        if not scored(run.best.critique):
            yield run.decide(refine_pb2.DECISION_KIND_ASK, run.best, overall.abstention_detail)
            raise Stop(refine_pb2.STOP_REASON_ASK)
        reason = f"best of {len(run.made)}: overall {overall.value:.1f} with a doubt of {overall.stddev:.1f}"
        yield run.decide(refine_pb2.DECISION_KIND_SELECT, run.best, reason)
        if other is not judge:
            for made in dict.fromkeys([run.best, run.made[0]]):
                whole = pb.Candidate(candidate_id=made.candidate_id, image=encode_image(made.picture))
                event = yield from run.attempt("critique", partial(other.critique, whole), made.candidate_id)
                made.critique = event.critique if event is not None else made.critique

    def _mend(self, judge: EditJudge) -> Steps:
        """Repair rounds; returns why they ended."""
        run, roll_backs = self._run, 0
        for number in range(run.request.budget.repair_round_count):
            if reaches(self._best.critique, run.request.budget.target_score):
                break
            run.check_budget()
            action, repair = self._choose(number)
            if action is None or repair is None:
                return refine_pb2.STOP_REASON_NO_ACTION_LEFT
            before = self._best
            yield run.decide(refine_pb2.DECISION_KIND_REPAIR, before, _why(before.critique, action), action)
            kept = yield from self._repair(judge, action, repair, number)
            roll_backs = 0 if kept else roll_backs + 1
            if roll_backs == _MAX_ROLL_BACKS:
                return refine_pb2.STOP_REASON_NO_GAIN
        if not reaches(self._best.critique, run.request.budget.target_score):
            return refine_pb2.STOP_REASON_BUDGET_SPENT
        reason = f"overall {self._best.critique.scores.overall.value:.1f} reaches the target"
        yield run.decide(refine_pb2.DECISION_KIND_ACCEPT, self._best, reason)
        return refine_pb2.STOP_REASON_TARGET_REACHED

    @property
    def _best(self) -> Made:
        if self._run.best is None:
            raise Stop(refine_pb2.STOP_REASON_FAILED)
        return self._run.best

    def _choose(self, number: int) -> tuple[pb.SuggestedAction, Repair] | tuple[None, None]:
        """The cheapest action that was not tried on this edit and that the engine can carry out."""
        run, best = self._run, self._best
        for action in plan_actions(best.critique):
            if action_key(action) in self._tried:
                continue
            self._tried.add(action_key(action))
            work = Workpiece(
                run.engine,
                run.source,
                best.picture,
                run.mask,
                run.blend,
                best.prompt,
                seed=self._repair_seed(number),
                attempt=self._attempts[action.kind],
                options=run.options,
            )
            self._attempts[action.kind] += 1
            try:
                repair = REPAIRS[action.kind](work, action)
            except EditCriticError:
                continue  # an engine that refuses one repair does not end the run
            if repair is not None:
                return action, repair
        return None, None

    def _repair(self, judge: EditJudge, action: pb.SuggestedAction, repair: Repair, number: int) -> Steps:
        """Carry it out, judge it, keep it or roll back; returns whether it was kept."""
        run, before, name = self._run, self._best, f"repair-{number + 1}"
        started = refine_pb2.CandidateStarted(
            candidate_id=name,
            seed=self._repair_seed(number),
            parent_candidate_id=before.candidate_id,
            action=action.kind,
        )
        yield run.record("candidate_started", started)
        make = partial(carry_out, repair, name, run.source, run.blend)
        try:
            made = yield from finish(run, judge, name, make, repair.prompt or before.prompt)
        finally:
            if repair.candidate is not None:
                repair.candidate.drop()
        if made is None:
            yield run.decide(refine_pb2.DECISION_KIND_ROLL_BACK, before, "the repair failed")
            return False
        verdict = is_better(before.critique, made.critique)
        if not verdict.keep:
            yield run.decide(refine_pb2.DECISION_KIND_ROLL_BACK, before, verdict.reason)
            return False
        run.best, self._tried = made, set()
        yield run.decide(refine_pb2.DECISION_KIND_KEEP, made, verdict.reason)
        return True

    def _repair_seed(self, number: int) -> int:
        sampling = self._run.request.sampling
        return sampling.seed + sampling.candidate_count + number

    def _started(self, judge: EditJudge, other: EditJudge) -> refine_pb2.RunStarted:
        run, engine = self._run, self._run.engine.capabilities.to_info()
        table = known_table(pairing(engine, judge.identity), self._journal)
        return refine_pb2.RunStarted(
            edit_id=run.edit.edit_id,
            engine=engine,
            race=run.request.race,
            preview_table=table.to_message(),
            search_critic=judge.identity,
            acceptance_critic=other.identity,
            sampling=run.request.sampling,
            budget=run.request.budget,
        )

    def _result(self, reason: refine_pb2.StopReason.ValueType) -> refine_pb2.RefineResult:
        run, best = self._run, self._run.best
        result = refine_pb2.RefineResult(
            stop_reason=reason, evaluation_count=run.evaluations, saved_evaluation_count=self._saved
        )
        if best is None:
            result.image.CopyFrom(run.edit.source)
            if reason == refine_pb2.STOP_REASON_FAILED and run.failure is not None:
                result.error.CopyFrom(run.failure)
            return result
        plain = run.made[0]
        if scored(plain.critique):
            result.plain_score = plain.critique.scores.overall.value
            # The lower bound may have chosen a sure answer over a better one.
            best = plain if result.plain_score > best.critique.scores.overall.value else best
        result.candidate_id = best.candidate_id
        result.image.CopyFrom(encode_image(best.picture))
        result.critique.CopyFrom(best.critique)
        return result


def _why(critique: pb.Critique, action: pb.SuggestedAction) -> str:
    """The fault that asked for this action, in the critic's words."""
    for defect in critique.defects:
        if any(action_key(each) == action_key(action) for each in defect.actions):
            return defect.explanation
    return f"overall {critique.scores.overall.value:.1f} is below the target, and no cheaper repair is left"
