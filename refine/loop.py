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

from editcritic.refine.acceptance import lower_bound, scored
from editcritic.refine.critic import Critic, EditJudge
from editcritic.refine.diagnosis import Diagnosis
from editcritic.refine.drafting import DraftPlan, plan_drafts
from editcritic.refine.engine import Engine
from editcritic.refine.journal import RunJournal
from editcritic.refine.known_previews import known_table, pairing
from editcritic.refine.leading import Leading
from editcritic.refine.mending import Mending
from editcritic.refine.preview_table import PRIOR_DRAFT, Group, PreviewTable, table_from_message
from editcritic.refine.race import Race, RaceOptions
from editcritic.refine.recorder import Event
from editcritic.refine.reprompt import Rewriter
from editcritic.refine.request import race_options
from editcritic.refine.run import Run, Steps, Stop
from editcritic.refine.sampling import Racing
from editcritic.v1 import refine_pb2
from editcritic.v1.images import encode_image

__all__ = ["Refinement"]


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
            self._racing = racing = self._raced(judge, table)
            is_whole = yield from self._sample(racing)
            mending = Mending(run, judge, other, self._rewriter, self._diagnosis, racing.is_worth_another)
            yield from Leading(run, judge, other, mending, racing).steps()
            reason = (yield from self._mend(mending)) if is_whole else refine_pb2.STOP_REASON_BUDGET_SPENT
        except Stop as stop:
            reason = stop.reason
        # A cancelled run can be resumed, so its end is not the end.
        transient = reason == refine_pb2.STOP_REASON_CANCELLED
        yield run.recorder.next("result", partial(self._result, reason), transient=transient)
        if self._journal is not None and self._learned is not None:
            name = pairing(started.started.engine, started.started.search_critic)
            self._journal.keep_previews(run.edit.edit_id, name, self._learned)

    def _raced(self, judge: EditJudge, table: PreviewTable) -> Racing:
        """The race of the run's first answers."""
        run, sampling = self._run, self._run.request.sampling
        seeds = {
            f"seed-{seed}": seed for seed in range(sampling.seed, sampling.seed + sampling.candidate_count)
        }
        plan = self._draft_plan(table)
        rest = plan.rest / run.steps_of_one
        race = Race(list(seeds), table, self._race_options(plan), sampling.seed, rest)
        return Racing(run, judge, race, seeds, plan)

    def _sample(self, racing: Racing) -> Steps:
        """First answers, raced against each other; the best by its lower bound leads. Returns whether the budget was
        enough for all that the race wanted."""
        run = self._run
        try:
            yield from racing.steps()
        except Stop as stop:
            if stop.reason != refine_pb2.STOP_REASON_BUDGET_SPENT:
                raise
            return False
        finally:
            run.best = max(run.made, key=lambda each: lower_bound(each.critique), default=None)
        self._learned = racing.group()
        return True

    def _draft_plan(self, table: PreviewTable) -> DraftPlan:
        run, share = self._run, (table.draft or PRIOR_DRAFT).fraction
        return plan_drafts(run.engine.capabilities, run.steps_of_one, share, run.options["strength"])

    def _race_options(self, plan: DraftPlan) -> RaceOptions:
        options, able = race_options(self._run.request.race), self._run.engine.capabilities
        # The table knows drafts that go on; those of an engine that can, made anew, tell less.
        is_unknown = options.draft is None and able.drafts and not plan.goes_on
        return replace(options, draft=False) if plan.steps == 0 or is_unknown else options

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
            stop_reason=reason,
            evaluation_count=run.evaluations,
            saved_evaluation_count=self._racing.saved if self._racing is not None else 0,
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
