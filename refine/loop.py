"""The loop on one page: sample, select, then accept, or diagnose and repair, until the budget is spent.

::

    for event in Refinement(engine, critic, completed_request(request), journal).run():
        ...                                   # previews, critiques, decisions; the last one is the result

A run is a function of its request, its engine and its critic, and every step's outcome is journaled before the next
step starts; so a run that was killed is resumed by running it again. What it hands back never has a lower score than
what the first seed alone gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from editcritic.refine.acceptance import is_worse, lower_bound, scored
from editcritic.refine.critic import Critic, EditJudge
from editcritic.refine.diagnosis import Diagnosis
from editcritic.refine.drafting import DraftPlan, plan_drafts
from editcritic.refine.engine import Engine
from editcritic.refine.journal import RunJournal
from editcritic.refine.known_previews import known_table, pairing
from editcritic.refine.mending import Mending
from editcritic.refine.preview_table import PRIOR_DRAFT, Group, PreviewTable, table_from_message
from editcritic.refine.race import Race, RaceOptions
from editcritic.refine.recorder import Event
from editcritic.refine.reprompt import Rewriter
from editcritic.refine.request import race_options
from editcritic.refine.run import Made, Run, Steps, Stop
from editcritic.refine.sampling import Racing, ask
from editcritic.v1 import refine_pb2
from editcritic.v1.images import encode_image

__all__ = ["Refinement"]

_MAX_CHECKED = 8  # leaders that the acceptance critic is asked about before the plain answer leads
_MAX_RESERVES = 3  # of those that the race dropped, finished when all of these were refused


class Refinement:
    """One run of the loop.

    Args:
        engine: produces candidates. critic: steers the search.
        request: as `completed_request` gives it. journal: where the run is kept; None keeps nothing. The same
            request goes on where it stopped.
        acceptance: decides whether repairs are kept; by default the critic itself.
        rewriter: words prompts anew in place of the rules.
        diagnosis: which fault calls for which repair; by default the table of the package.

    Raises: InvalidInput when the journal has an edit of that name that asked for something else.
    """

    def __init__(
        self,
        engine: Engine,
        critic: Critic,
        request: refine_pb2.RefineRequest,
        journal: RunJournal | None = None,
        acceptance: Critic | None = None,
        rewriter: Rewriter | None = None,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        self._critic, self._acceptance, self._journal = critic, acceptance, journal
        self._run = Run(engine, request, journal)
        self._rewriter, self._diagnosis = rewriter, diagnosis
        self._racing: Racing | None = None
        self._learned: Group | None = None
        self._saved = 0

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
            table = table_from_message(started.started.preview_table)
            is_whole = yield from self._sample(judge, table)
            mending = Mending(run, judge, other, self._rewriter, self._diagnosis)
            yield from self._select(judge, other, mending)
            reason = (yield from self._mend(mending)) if is_whole else refine_pb2.STOP_REASON_BUDGET_SPENT
        except Stop as stop:
            reason = stop.reason
        # A cancelled run can be resumed, so its end is not the end.
        transient = reason == refine_pb2.STOP_REASON_CANCELLED
        yield run.recorder.next("result", partial(self._result, reason), transient=transient)
        if self._journal is not None and self._learned is not None:
            name = pairing(started.started.engine, started.started.search_critic)
            self._journal.keep_previews(run.edit.edit_id, name, self._learned)

    def _sample(self, judge: EditJudge, table: PreviewTable) -> Steps:
        """First answers, raced against each other; the best by its lower bound leads. Returns whether the budget was
        enough for all that the race wanted."""
        run, sampling = self._run, self._run.request.sampling
        seeds = {
            f"seed-{seed}": seed for seed in range(sampling.seed, sampling.seed + sampling.candidate_count)
        }
        plan = self._draft_plan(table)
        rest = plan.rest / run.steps_of_one
        race = Race(list(seeds), table, self._race_options(plan), sampling.seed, rest)
        self._racing = racing = Racing(run, judge, race, seeds, plan)
        try:
            yield from racing.steps()
        except Stop as stop:
            if stop.reason != refine_pb2.STOP_REASON_BUDGET_SPENT:
                raise
            return False
        finally:
            run.best = max(run.made, key=lambda each: lower_bound(each.critique), default=None)
        self._learned, self._saved = racing.group(), racing.saved_steps()
        return True

    def _draft_plan(self, table: PreviewTable) -> DraftPlan:
        run, share = self._run, (table.draft or PRIOR_DRAFT).fraction
        return plan_drafts(run.engine.capabilities, run.steps_of_one, share, run.options["strength"])

    def _race_options(self, plan: DraftPlan) -> RaceOptions:
        options = race_options(self._run.request.race)
        return options if plan.steps > 0 else replace(options, draft=False)

    def _select(self, judge: EditJudge, other: EditJudge, mending: Mending) -> Steps:
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
            yield from self._check(other, mending)

    def _check(self, other: EditJudge, mending: Mending) -> Steps:
        """Lead with the best that the acceptance critic finds no worse than the plain answer, as it is or mended."""
        run, plain = self._run, self._run.made[0]
        yield from ask(run, other, plain)
        leaders = sorted(run.made, key=lambda each: lower_bound(each.critique), reverse=True)
        run.best = plain
        for made in leaders[:_MAX_CHECKED]:
            if made is plain or (yield from self._leads(made, plain, other, mending)):
                break
        else:
            made = plain
        if made is plain and leaders[0] is not plain:
            yield from self._call_reserves(plain, other, mending)

    def _leads(self, made: Made, plain: Made, other: EditJudge, mending: Mending) -> Steps:
        """Whether the acceptance critic lets it lead, as it is or mended; it then does."""
        run = self._run
        yield from ask(run, other, made)
        leader = (yield from mending.free_steps(made)) if _is_behind(plain, made) else made
        if worse := _is_behind(plain, leader):
            yield run.decide(refine_pb2.DECISION_KIND_ROLL_BACK, made, f"by {other.identity.name}: {worse}")
            return False
        run.best = leader
        return True

    def _call_reserves(self, plain: Made, other: EditJudge, mending: Mending) -> Steps:
        """All that the race finished were refused: try those that it had dropped, as long as they may lead."""
        racing = self._racing
        for _ in range(_MAX_RESERVES):
            made = (yield from racing.another()) if racing is not None else None
            if racing is None or made is None:
                return
            self._saved = racing.saved_steps()
            ahead = lower_bound(made.critique) > lower_bound(plain.critique)
            if ahead and (yield from self._leads(made, plain, other, mending)):
                return

    def _mend(self, mending: Mending) -> Steps:
        """Repair rounds; returns why they ended."""
        if self._run.best is None:
            raise Stop(refine_pb2.STOP_REASON_FAILED)
        return (yield from mending.steps(self._run.best))

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
        if plain.held_out is not None and scored(plain.held_out):
            result.plain_acceptance_score = plain.held_out.scores.overall.value
        if best.held_out is not None:
            result.acceptance_critique.CopyFrom(best.held_out)
        result.candidate_id = best.candidate_id
        result.image.CopyFrom(encode_image(best.picture))
        result.critique.CopyFrom(best.critique)
        return result


def _is_behind(plain: Made, made: Made) -> str:
    """Why the acceptance critic would rather keep the plain answer; empty when it would not."""
    return is_worse(plain.held_out, made.held_out) if plain.held_out and made.held_out else ""
