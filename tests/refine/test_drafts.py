"""Drafts: the same seed in few steps, so that a race knows whom to finish."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.refine.drafting import draft_steps
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.preview_table import (
    PRIOR,
    PRIOR_DRAFT,
    Group,
    PreviewTable,
    Rung,
    fit_table,
    table_from_message,
)
from editcritic.refine.race import Advance, Drop, MakeDrafts, Race, RaceOptions
from editcritic.refine.race_replay import Record, replay
from editcritic.refine.solvers import draft_scheduler
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput
from tests.refine.conftest import engine_of
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import Events, decisions, events_of, request_for
from tests.refine.test_race import cost, finished, run, telling_table
from tests.refine.test_racing_runs import ends_alike_after_any_kill

FINALS = [40.0, 30.0, 80.0, 20.0, 50.0, 60.0, 10.0, 35.0]


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def drafting_table(error: float = 0.1, correlation: float = 0.95) -> PreviewTable:
    """Drafts that are the final score plus an error, beside previews that are not looked at."""
    return replace(
        telling_table(error=1.0, correlation=0.0), draft=Rung(0.2, 0.0, 1.0, error, 0.1, correlation)
    )


def test_all_are_drafted_before_the_best_of_them_alone_is_finished() -> None:
    moves = run(Race(names(8), drafting_table()), FINALS)
    assert moves[0] == Advance(("0",), 1.0), "what the user would have got needs no draft"
    drafted = {name for move in moves if isinstance(move, MakeDrafts) for name in move.names}
    assert drafted == set(names(8)) - {"0"}
    assert finished(moves) == {"0", "2"}
    assert cost(moves) == pytest.approx(2.0), "and nobody else was begun"
    told = [move.reason for move in moves if isinstance(move, Drop)]
    assert len(told) == 6
    assert all("its draft in 20% of the steps has" in each for each in told)


def test_nobody_is_drafted_when_the_first_result_can_hardly_be_beaten() -> None:
    moves = run(Race(names(4), drafting_table()), [99.5, 50.0, 60.0, 70.0])
    assert not [move for move in moves if isinstance(move, MakeDrafts)]


def test_drafts_are_made_where_they_are_known_to_tell_or_asked_for() -> None:
    def drafts(table: PreviewTable, **options: Any) -> bool:
        moves = run(Race(names(8), table, RaceOptions(**options)), FINALS)
        return any(isinstance(move, MakeDrafts) for move in moves)

    assert drafts(drafting_table())
    assert not drafts(drafting_table(), draft=False)
    assert not drafts(drafting_table(correlation=0.1)), "drafts that tell nothing cost steps"
    assert not drafts(PRIOR), "nobody knows what drafts of this engine tell"
    assert drafts(PRIOR, draft=True)
    assert drafts(PRIOR, is_audit=True), "else nobody would ever learn it"
    assert not drafts(drafting_table(), method="halving")
    assert not drafts(drafting_table(), method="plain"), "where everybody is finished drafts are of no use"
    assert drafts(drafting_table(), method="plain", draft=True)


def test_previews_are_only_looked_at_where_they_tell_more_than_the_draft() -> None:
    rungs = (
        Rung(0.0, 0.5, 0.0, 1.0, 0.5, 0.0),
        Rung(0.2, 0, 1, 0.9, 0.1, 0.5),
        Rung(0.6, 0, 1, 0.1, 0.1, 0.9),
    )
    table = PreviewTable(rungs, draft=Rung(0.2, 0, 1, 0.5, 0.1, 0.8))
    moves = run(Race(names(8), table), FINALS)
    looked = {move.fraction for move in moves if isinstance(move, Advance) and move.names != ("0",)}
    assert looked == {0.6, 1.0}


def test_a_draft_that_the_critic_cannot_judge_drops_nobody() -> None:
    race = Race(names(3), drafting_table())
    race.finished("0", 40.0)
    assert isinstance(race.next(), MakeDrafts)
    race.drafted("1", None)
    race.drafted("2", 5.0)
    while (move := race.next()) is not None:
        if isinstance(move, Advance):
            for name in move.names:
                race.finished(name, 45.0)
        else:
            assert isinstance(move, Drop)
            assert move.name == "2", "only a draft that was judged can speak"


def test_a_replayed_race_counts_the_steps_of_drafts() -> None:
    record = Record(names(8), [{} for _ in FINALS], FINALS, FINALS)
    with_drafts = replay(record, drafting_table(), RaceOptions(), 0)
    assert with_drafts.best == "2"
    assert with_drafts.cost == pytest.approx(1 + 7 * 0.2 + 1)
    without = replay(replace(record, drafts=()), drafting_table(), RaceOptions(), 0)
    assert without.cost > with_drafts.cost


def test_a_table_learns_what_drafts_tell_and_says_nothing_of_those_it_never_saw() -> None:
    rng = np.random.default_rng(3)
    finals = [list(rng.uniform(20, 90, 8)) for _ in range(60)]
    assert fit_table([Group({}, each) for each in finals]).draft is None
    told = fit_table([Group({}, each, each) for each in finals]).draft
    random = fit_table([Group({}, each, list(rng.permutation(each))) for each in finals]).draft
    assert told is not None
    assert random is not None
    assert told.correlation > 0.85 > 0.3 > random.correlation
    assert told.error < PRIOR_DRAFT.error
    table = replace(PRIOR, draft=told)
    assert table_from_message(table.to_message()) == table


@pytest.mark.parametrize(("steps", "drafted"), [(20, 4), (50, 10), (10, 2), (5, 2), (4, 0), (2, 0), (1, 0)])
def test_a_draft_takes_a_fifth_of_the_steps_where_that_is_enough_to_show_something(
    steps: int, drafted: int
) -> None:
    assert draft_steps(steps, 0.2) == drafted


def drafting(**more: Any) -> refine_pb2.RaceOptions:
    return refine_pb2.RaceOptions(audit=False, draft=True, **more)


def drafts_of(events: Events) -> list[refine_pb2.PreviewTaken]:
    return [event.preview for event in events if event.preview.is_draft]


def test_a_run_tells_its_drafts_and_counts_their_steps() -> None:
    critic = PlainCritic()
    events = events_of(critic, request_for(count=6, race=drafting(price=4.0), repair_round_count=0))
    drafts = drafts_of(events)
    assert drafts
    assert all(each.progress.step == 2 and each.progress.step_count == 10 for each in drafts)
    assert (drafts[0].candidate_id, 1.0) in critic.seen, "a draft is judged as what it is, a finished picture"
    own: dict[str, int] = {}
    for event in events:
        if event.HasField("preview") and not event.preview.is_draft:
            own[event.preview.candidate_id] = event.preview.progress.step
        elif event.HasField("candidate_finished"):
            own[event.candidate_finished.candidate_id] = event.candidate_finished.evaluation_count
    result = events[-1].result
    assert result.evaluation_count == sum(own.values()) + 2 * len(drafts)
    assert result.saved_evaluation_count + result.evaluation_count == 6 * 10


def test_a_run_with_drafts_that_is_killed_after_any_event_resumes_to_the_same_end(tmp_path: Path) -> None:
    request = request_for(count=6, race=drafting(price=2.0), repair_round_count=0)
    assert drafts_of(ends_alike_after_any_kill(request, tmp_path))


def test_a_budget_has_room_for_drafts_only_when_one_of_them_can_be_finished() -> None:
    events = events_of(PlainCritic(), request_for(count=6, race=drafting(), evaluation_count=25))
    assert events[-1].result.evaluation_count <= 25
    assert len(drafts_of(events)) == (25 - 10 - 10) // 2
    assert "SELECT" in decisions(events)


def test_too_few_steps_for_a_draft_make_none() -> None:
    request = request_for(count=4, race=drafting(), repair_round_count=0)
    request.sampling.step_count = 4
    assert not drafts_of(events_of(PlainCritic(), request))


class CannotDraft(DummyEngine):
    """Refuses every draft."""

    def candidate(self, *arguments: Any, **options: Any) -> Any:
        if options.get("draft"):
            raise InvalidInput("no drafts here")
        return super().candidate(*arguments, **options)


@pytest.mark.parametrize("is_audit", [False, True])
def test_a_draft_that_fails_costs_nobody_the_plain_answer_nor_the_race(is_audit: bool) -> None:
    race = refine_pb2.RaceOptions(audit=is_audit, draft=True)
    events = events_of(
        PlainCritic(), request_for(count=4, race=race, repair_round_count=0), engine=CannotDraft()
    )
    finished_ones = {e.candidate_finished.candidate_id for e in events if e.HasField("candidate_finished")}
    assert "seed-5" in finished_ones
    assert len(finished_ones) > 1
    assert not drafts_of(events)


def test_an_audit_teaches_the_journal_what_drafts_tell(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    audit = refine_pb2.RaceOptions(audit=True)
    for number in range(2):
        request = request_for(f"edit-{number}", seed=9 * number, count=6, race=audit, repair_round_count=0)
        events = events_of(PlainCritic(), request, journal=journal)
        assert "DROP" not in decisions(events)
        assert len(drafts_of(events)) == 6
    table = events[0].started.preview_table
    assert table.HasField("draft")
    later = events_of(
        PlainCritic(),
        request_for("later", count=6, race=refine_pb2.RaceOptions(audit=False)),
        journal=journal,
    )
    assert drafts_of(later), "what the audits found is used without being asked for"


def test_a_draft_of_the_tabletop_shows_what_its_seed_becomes(
    photo: NDArray[np.uint8], hole: NDArray[np.bool_]
) -> None:
    engine = load_engine("tabletop")

    def answer(seed: int, **options: Any) -> NDArray[np.float64]:
        made = engine.candidate(photo, hole, "a shiny red ball", seed=seed, **options)
        return made.result()[hole].astype(float)

    finals = [answer(seed) for seed in range(3)]
    for seed in range(3):
        draft = answer(seed, steps=4, draft=True)
        apart = [float(np.abs(draft - final).mean()) for final in finals]
        assert int(np.argmin(apart)) == seed
        plain = answer(seed, steps=4)
        assert apart[seed] < np.abs(plain - finals[seed]).mean(), "the draft's solver comes nearer"


@pytest.mark.parametrize(("pipeline", "solver"), [("sd", "UniPCMultistepScheduler"), ("flux", "FlowMatch")])
def test_a_draft_takes_another_solver_only_where_that_follows_the_same_equation(
    pipeline: str, solver: str
) -> None:
    scheduler = engine_of(pipeline).pipeline.scheduler
    assert type(draft_scheduler(scheduler)).__name__.startswith(solver)
    assert draft_scheduler(scheduler) is not scheduler
