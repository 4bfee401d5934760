"""Drafts: what seeds become, seen after a few large steps, so that a race knows whom to finish."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.refine.drafting import draft_steps
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.pipelines import DiffusersEngine
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
from editcritic.refine.solvers import drafting_scheduler, goes_in_large_steps, step_places
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


class NoLargeSteps(DummyEngine):
    """An engine without a solver for large steps: its drafts are candidates of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, drafts=False)


def finished_in(events: Events) -> dict[str, refine_pb2.CandidateFinished]:
    return {
        e.candidate_finished.candidate_id: e.candidate_finished
        for e in events
        if e.HasField("candidate_finished")
    }


def own_steps(events: Events) -> dict[str, int]:
    """Steps by candidate, those of drafts that were made for themselves left out."""
    own: dict[str, int] = {}
    for event in events:
        if event.HasField("preview") and (event.preview.goes_on or not event.preview.is_draft):
            own[event.preview.candidate_id] = event.preview.progress.step
        elif event.HasField("candidate_finished"):
            own[event.candidate_finished.candidate_id] = event.candidate_finished.evaluation_count
    return own


def test_a_run_tells_its_drafts_and_goes_on_from_them() -> None:
    critic = PlainCritic()
    events = events_of(critic, request_for(count=6, race=drafting(price=4.0), repair_round_count=0))
    drafts, finished_ones = drafts_of(events), finished_in(events)
    assert drafts
    assert all(each.progress.step == 2 and each.progress.step_count == 10 for each in drafts)
    assert all(each.goes_on for each in drafts)
    assert (drafts[0].candidate_id, 1.0) in critic.seen, "a draft is judged as what it is, a finished picture"
    begun = [finished_ones[each.candidate_id] for each in drafts if each.candidate_id in finished_ones]
    assert begun
    assert {each.large_step_count for each in begun} == {2}
    assert all(2 < each.evaluation_count < 10 for each in begun), "the large steps are not gone again"
    assert finished_ones["seed-5"].large_step_count == 0, "the plain answer is what the user would have got"
    assert finished_ones["seed-5"].evaluation_count == 10
    result = events[-1].result
    assert result.evaluation_count == sum(own_steps(events).values())
    assert result.saved_evaluation_count + result.evaluation_count == 6 * 10


def test_where_an_engine_cannot_go_on_a_draft_is_on_top_of_its_candidate() -> None:
    request = request_for(count=6, race=drafting(price=4.0), repair_round_count=0)
    events = events_of(PlainCritic(), request, engine=NoLargeSteps())
    drafts, finished_ones = drafts_of(events), finished_in(events)
    assert drafts
    assert not any(each.goes_on for each in drafts)
    assert {each.evaluation_count for each in finished_ones.values()} == {10}
    assert events[-1].result.evaluation_count == sum(own_steps(events).values()) + 2 * len(drafts)


def test_a_candidate_that_keeps_some_of_what_is_there_is_drafted_anew_and_only_when_asked() -> None:
    request = request_for(count=4, race=drafting(), repair_round_count=0)
    request.sampling.strength = 0.6
    drafts = drafts_of(events_of(PlainCritic(), request))
    assert drafts
    assert not any(each.goes_on for each in drafts)
    request.race.ClearField("draft")
    request.race.audit = True
    assert not drafts_of(events_of(PlainCritic(), request)), "the table is to know one kind of drafts"
    request.sampling.strength = 1.0
    assert drafts_of(events_of(PlainCritic(), request))


@pytest.mark.parametrize("engine", [DummyEngine, NoLargeSteps])
def test_a_run_with_drafts_that_is_killed_after_any_event_resumes_to_the_same_end(
    engine: type[DummyEngine], tmp_path: Path
) -> None:
    request = request_for(count=6, race=drafting(price=2.0), repair_round_count=0)
    assert drafts_of(ends_alike_after_any_kill(request, tmp_path, engine=engine()))


def test_a_budget_has_room_for_drafts_only_when_one_of_them_can_be_finished() -> None:
    request = request_for(count=6, race=drafting(), evaluation_count=25)
    events = events_of(PlainCritic(), request, engine=NoLargeSteps())
    assert events[-1].result.evaluation_count <= 25
    assert len(drafts_of(events)) == (25 - 10 - 10) // 2
    assert "SELECT" in decisions(events)
    going_on = events_of(PlainCritic(), request)
    assert going_on[-1].result.evaluation_count <= 25
    assert len(drafts_of(going_on)) > len(drafts_of(events)), "finishing one of them takes less"


def test_too_few_steps_for_a_draft_make_none() -> None:
    request = request_for(count=4, race=drafting(), repair_round_count=0)
    request.sampling.step_count = 4
    assert not drafts_of(events_of(PlainCritic(), request))


class CannotDraft(DummyEngine):
    """Refuses every draft."""

    def candidate(self, *arguments: Any, **options: Any) -> Any:
        if options.get("large_steps") or options["steps"]:
            raise InvalidInput("no drafts here")
        return super().candidate(*arguments, **options)


class CannotDraftAnew(CannotDraft, NoLargeSteps):
    """Refuses drafts that are candidates of their own, too."""


@pytest.mark.parametrize("is_audit", [False, True])
@pytest.mark.parametrize("engine", [CannotDraft, CannotDraftAnew])
def test_a_draft_that_fails_costs_nobody_the_plain_answer_nor_the_race(
    engine: type[DummyEngine], is_audit: bool
) -> None:
    race = refine_pb2.RaceOptions(audit=is_audit, draft=True)
    events = events_of(PlainCritic(), request_for(count=4, race=race, repair_round_count=0), engine=engine())
    finished_ones = finished_in(events)
    assert "seed-5" in finished_ones
    assert len(finished_ones) > 1
    assert {each.large_step_count for each in finished_ones.values()} == {0}, "they were tried in whole"
    assert not drafts_of(events)


@pytest.mark.parametrize(("engine", "drafted"), [(DummyEngine, 5), (NoLargeSteps, 6)])
def test_an_audit_teaches_the_journal_what_drafts_tell(
    engine: type[DummyEngine], drafted: int, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    audit = refine_pb2.RaceOptions(audit=True)
    for number in range(2):
        request = request_for(f"edit-{number}", seed=9 * number, count=6, race=audit, repair_round_count=0)
        events = events_of(PlainCritic(), request, journal=journal, engine=engine())
        assert "DROP" not in decisions(events)
        assert len(drafts_of(events)) == drafted, "the plain answer goes no large steps"
    table = events[0].started.preview_table
    assert table.HasField("draft")
    later = events_of(
        PlainCritic(),
        request_for("later", count=6, race=refine_pb2.RaceOptions(audit=False)),
        journal=journal,
        engine=engine(),
    )
    assert drafts_of(later), "what the audits found is used without being asked for"


def test_an_audit_makes_no_drafts_where_they_are_known_to_tell_nothing() -> None:
    race = Race(names(4), drafting_table(correlation=0.1), RaceOptions(is_audit=True))
    moves = run(race, FINALS[:4])
    assert not [move for move in moves if isinstance(move, MakeDrafts)]
    assert finished(moves) == set(names(4))


def test_more_are_finished_when_that_takes_less_after_a_draft() -> None:
    close = [40.0, 60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0]
    table = drafting_table(error=0.2)
    anew = finished(run(Race(names(8), table), close))
    going_on = finished(run(Race(names(8), table, rest=0.15), close))
    assert going_on > anew


def test_a_replayed_race_counts_what_is_left_after_a_draft() -> None:
    drafts = [float("nan"), *FINALS[1:]]
    record = Record(names(8), [{} for _ in FINALS], FINALS, drafts, rest=0.15)
    told = replay(record, drafting_table(), RaceOptions(), 0)
    assert told.best == "2"
    assert told.cost == pytest.approx(1 + 7 * 0.2 + 0.15)


def test_the_reserve_is_who_was_dropped_the_best_draft_first() -> None:
    race = Race(names(8), drafting_table())
    done = finished(run(race, FINALS))
    reserve = race.reserve()
    assert set(reserve) == set(names(8)) - done
    assert [FINALS[int(name)] for name in reserve] == sorted(
        (FINALS[int(name)] for name in reserve), reverse=True
    )


@pytest.mark.parametrize(("steps", "large"), [(20, 5), (50, 12), (28, 7), (10, 2), (5, 2), (4, 1)])
def test_large_steps_lie_evenly_and_small_ones_follow(steps: int, large: int) -> None:
    places = step_places(steps, large)
    assert places[0] == 0
    lengths = np.diff([*places[:large], steps])
    assert np.ptp(lengths) <= 1, "as even as whole steps allow"
    assert places[large - 1 :] == list(range(places[large - 1], steps)), "then each step of the schedule"


def test_a_draft_of_the_tabletop_is_what_its_seed_shows_in_so_few_steps(
    photo: NDArray[np.uint8], hole: NDArray[np.bool_]
) -> None:
    engine = load_engine("tabletop")
    prepare = partial(engine.candidate, photo, hole, "a shiny red ball")
    finals = [prepare(seed=seed).result()[hole].astype(float) for seed in range(3)]

    def nearest(picture: NDArray[np.uint8]) -> int:
        return int(np.argmin([np.abs(picture[hole] - final).mean() for final in finals]))

    for seed in range(3):
        begun = prepare(seed=seed, large_steps=5)
        begun.advance(5 / 8)
        assert begun.evaluations == 5
        seen = begun.preview(in_full=True)
        left, top, right, bottom = seen.region
        draft = photo.copy()
        draft[top:bottom, left:right] = seen.picture
        alone = prepare(seed=seed, steps=5, large_steps=5).result()
        assert np.abs(draft.astype(int) - alone).max() <= 1
        assert nearest(draft) == nearest(begun.result()) == seed
        assert begun.evaluations == 8


@pytest.mark.parametrize("pipeline", ["sd", "sdxl"])
def test_large_steps_are_places_of_the_whole_schedule(pipeline: str) -> None:
    scheduler = engine_of(pipeline).pipeline.scheduler
    whole, front = drafting_scheduler(scheduler, 20, 20), drafting_scheduler(scheduler, 20, 5)
    whole.set_timesteps(20)
    front.set_timesteps(8)
    assert front.timesteps.tolist() == whole.timesteps[step_places(20, 5)].tolist()
    assert front.sigmas[-1] == whole.sigmas[-1]
    assert type(scheduler).__name__ == engine_of(pipeline).capabilities.scheduler, "the engine keeps its own"


def test_every_engine_goes_large_steps_or_says_that_it_cannot(engine: DiffusersEngine) -> None:
    source, mask = np.full((48, 64, 3), 90, np.uint8), np.zeros((48, 64), np.float32)
    mask[16:32, 20:40] = 1
    able = engine.capabilities.drafts
    assert able == goes_in_large_steps(engine.pipeline.scheduler)
    if not able:
        with pytest.raises(InvalidInput, match="no solver for large steps"):
            engine.candidate(source, mask, "a ball", seed=1, large_steps=2)
        return
    begun = engine.candidate(source, mask, "a ball", seed=1, steps=8, large_steps=2)
    begun.advance(2 / 5)
    assert begun.preview(in_full=True).picture.shape[2] == 3
    result = begun.result()
    assert begun.evaluations == len(step_places(8, 2))
    assert (result[0] == source[0]).all()
    again = engine.candidate(source, mask, "a ball", seed=1, steps=8, large_steps=2)
    assert (again.result() == result).all(), "stopping for the draft changes nothing"


@pytest.mark.parametrize(
    "options", [{"large_steps": -1}, {"large_steps": 11}, {"large_steps": 2, "strength": 0.5}]
)
def test_large_steps_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    source, mask = np.full((48, 64, 3), 90, np.uint8), np.ones((48, 64), np.float32)
    with pytest.raises(InvalidInput, match="large_steps"):
        DummyEngine().candidate(source, mask, "a ball", seed=1, **options)
