"""Races inside a run: what they save, that they resume, what they teach, and who has to agree to their winner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from editcritic.refine.dummy import DummyEngine
from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.request import completed_request
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import (
    Events,
    decisions,
    defect,
    events_of,
    request_for,
    stop_reason,
    without_time,
)


def racing(**more: Any) -> refine_pb2.RaceOptions:
    return refine_pb2.RaceOptions(method=refine_pb2.RACE_METHOD_MARGIN, audit=False, **more)


def test_a_race_drops_candidates_tells_why_and_what_was_saved() -> None:
    events = events_of(PlainCritic(), request_for(count=8, race=racing(price=4.0), repair_round_count=0))
    drops = [e.decision for e in events if e.decision.kind == refine_pb2.DECISION_KIND_DROP]
    assert drops
    assert all(0 <= each.probability <= 1 and "points" in each.reason for each in drops)
    finished = {e.candidate_finished.candidate_id for e in events if e.HasField("candidate_finished")}
    assert not finished & {each.candidate_id for each in drops}
    assert "seed-5" in finished, "what the user would have got is always there to compare with"
    result = events[-1].result
    assert result.saved_evaluation_count + result.evaluation_count == 8 * 10
    assert result.saved_evaluation_count > 0


def test_a_critic_is_told_whose_previews_it_sees() -> None:
    events = events_of(PlainCritic(), request_for(count=3, race=racing(), repair_round_count=0))
    previews = [e.preview.progress for e in events if e.HasField("preview")]
    assert previews
    assert {each.engine for each in previews} == {events[0].started.engine.name}


def test_a_race_that_is_killed_after_any_event_resumes_to_the_same_end(tmp_path: Path) -> None:
    request = request_for(count=6, race=racing(price=2.0), repair_round_count=1)
    straight = ends_alike_after_any_kill(request, tmp_path)
    assert "DROP" in decisions(straight)


def ends_alike_after_any_kill(request: refine_pb2.RefineRequest, tmp_path: Path, **options: Any) -> Events:
    """The events of an undisturbed run, once it was seen that runs killed after any of them end in the same way.

    options: as `Refinement` takes them.
    """
    options = {"engine": load_engine("dummy")} | options
    straight = events_of(PlainCritic(), request, **options)
    for length in range(1, len(straight) + 1):
        journal = Journal(tmp_path / f"{length}.sqlite3")
        killed = Refinement(critic=PlainCritic(), request=request, journal=journal, **options).run()
        for _ in range(length):
            next(killed)
        killed.close()  # type: ignore[attr-defined]
        resumed = events_of(PlainCritic(), journal.request("mine"), journal=journal, **options)
        assert without_time(resumed) == without_time(straight), f"killed after event {length}"
    return straight


def test_runs_in_which_nobody_is_dropped_teach_the_journal_and_later_races_use_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    audit = refine_pb2.RaceOptions(audit=True)
    tables = []
    for number in range(3):
        request = request_for(f"edit-{number}", seed=9 * number, count=6, race=audit, repair_round_count=0)
        events = events_of(PlainCritic(), request, journal=journal)
        assert "DROP" not in decisions(events)
        tables.append(events[0].started.preview_table)
    assert [table.group_count for table in tables] == [0, 1, 2]
    pruned = request_for("pruned", count=6, race=racing(price=4.0), repair_round_count=0)
    assert "DROP" in decisions(events_of(PlainCritic(), pruned, journal=journal))
    lucky = events_of(
        PlainCritic(lambda _p, _m: 50.0),
        request_for("lucky", count=3, race=racing(price=0.001)),
        journal=journal,
    )
    assert "DROP" not in decisions(lucky)
    last = events_of(PlainCritic(), request_for("last", count=2), journal=journal)
    assert last[0].started.preview_table.group_count == 3, (
        "a pruned race shows survivors only and teaches nothing"
    )


def test_a_resumed_race_decides_by_the_table_that_it_began_with(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    request = request_for(count=6, race=racing(price=2.0), repair_round_count=0)
    killed = Refinement(load_engine("dummy"), PlainCritic(), request, journal).run()
    for _ in range(5):
        next(killed)
    killed.close()  # type: ignore[attr-defined]
    for number in range(4):
        other = request_for(f"other-{number}", seed=50 * number, count=6, repair_round_count=0)
        events_of(PlainCritic(), other, journal=journal)
    resumed = events_of(PlainCritic(), request, journal=journal)
    assert without_time(resumed) == without_time(events_of(PlainCritic(), request))


def test_a_budget_that_ends_the_race_still_chooses_and_asks_the_acceptance_critic() -> None:
    search, acceptance = PlainCritic(), PlainCritic()
    request = request_for(count=6, race=racing(), evaluation_count=25)
    events = events_of(search, request, acceptance=acceptance)
    assert stop_reason(events) == "BUDGET_SPENT"
    assert events[-1].result.evaluation_count <= 25
    assert "SELECT" in decisions(events)
    assert acceptance.seen


def test_one_in_twenty_runs_is_an_audit_and_a_seed_is_always_the_same() -> None:
    def audits(seed: int) -> bool:
        return completed_request(request_for(seed=seed, race=refine_pb2.RaceOptions())).race.audit

    chosen = [audits(seed) for seed in range(400)]
    assert 8 <= sum(chosen) <= 36
    assert chosen[:20] == [audits(seed) for seed in range(20)]


def test_the_leader_is_the_best_that_the_acceptance_critic_finds_no_worse_than_plain() -> None:
    replaced = 0
    for seed in range(12):
        reddish = PlainCritic(lambda picture, mask: float(picture[mask > 0.5][:, 0].mean() / 2.55))
        events = events_of(
            PlainCritic(), request_for(seed=seed, count=4, repair_round_count=0), acceptance=reddish
        )
        result = events[-1].result
        assert result.critique.scores.overall.value >= result.plain_score
        assert result.acceptance_critique.scores.overall.value >= result.plain_acceptance_score
        replaced += "ROLL_BACK" in decisions(events)
    assert replaced, "in no run was the leader of the search refused, so this test could not fail"


def redness(picture: np.ndarray, mask: np.ndarray) -> float:
    return float(picture[mask > 0.5][:, 0].mean() / 2.55)


def dropped_in(events: Events) -> set[str]:
    drops = [e.decision for e in events if e.decision.kind == refine_pb2.DECISION_KIND_DROP]
    return {each.candidate_id for each in drops}


def called_from_the_reserve(events: Events) -> set[str]:
    return dropped_in(events) & {e.candidate_finished.candidate_id for e in events}


SOMETIMES_REFUSED = (48, 56, 64, 72, 80)
"""Seeds among whose runs are some where the acceptance critic refuses all that were finished."""


def drafted_runs(seed: int, count: int = 8, **budget: Any) -> refine_pb2.RefineRequest:
    return request_for(
        seed=seed, count=count, race=racing(draft=True, price=20.0), repair_round_count=0, **budget
    )


def test_when_all_that_were_finished_are_refused_those_that_were_dropped_are_tried(tmp_path: Path) -> None:
    led = []
    for seed in SOMETIMES_REFUSED:
        events = events_of(PlainCritic(), drafted_runs(seed), acceptance=PlainCritic(redness))
        result, called = events[-1].result, called_from_the_reserve(events)
        assert len(called) <= 6
        assert result.critique.scores.overall.value >= result.plain_score
        assert result.acceptance_critique.scores.overall.value >= result.plain_acceptance_score
        assert decisions(events).count("RECALL") == len(called), "and the history says so"
        if called:
            assert "ROLL_BACK" in decisions(events), "nobody is called as long as somebody may lead"
        if result.candidate_id in called:
            led.append(seed)
    assert led, "in no run did a reserve lead, so this test could not fail"
    ends_alike_after_any_kill(drafted_runs(led[0]), tmp_path, acceptance=PlainCritic(redness))


def test_no_more_than_six_of_the_reserve_are_called_though_more_are_left() -> None:
    called, left = 0, 0
    for seed in SOMETIMES_REFUSED:
        events = events_of(PlainCritic(), drafted_runs(seed, count=12), acceptance=PlainCritic(redness))
        called = max(called, len(called_from_the_reserve(events)))
        left = max(left, len(dropped_in(events)))
    assert left > 6, "too few were dropped for the limit to show"
    assert called == 6


def test_calling_a_reserve_is_paid_for_and_keeps_to_the_budget() -> None:
    called, limited = 0, 0
    for seed in SOMETIMES_REFUSED:
        free = events_of(PlainCritic(), drafted_runs(seed), acceptance=PlainCritic(redness))
        reserve = called_from_the_reserve(free)
        spent = {e.candidate_finished.candidate_id: e.candidate_finished.evaluation_count for e in free}
        lost = sum(e.preview.progress.step for e in free if e.preview.candidate_id in dropped_in(free))
        finished = sum(steps for name, steps in spent.items() if name)
        assert free[-1].result.evaluation_count == finished + lost
        tight = drafted_runs(seed, evaluation_count=free[-1].result.evaluation_count - 1)
        kept = events_of(PlainCritic(), tight, acceptance=PlainCritic(redness))
        assert kept[-1].result.evaluation_count < free[-1].result.evaluation_count
        called, limited = called + len(reserve), limited + len(called_from_the_reserve(kept))
    assert called > limited


def rerolls_at(score: float, race: refine_pb2.RaceOptions, *faults: pb.Defect) -> int:
    """How often another seed is tried when every answer has that score."""
    critic = PlainCritic(lambda _picture, _mask: score, defects=faults)
    events = events_of(critic, request_for(count=2, race=race, repair_round_count=2))
    repairs = [e.candidate_started for e in events if e.candidate_started.parent_candidate_id]
    return [each.action for each in repairs].count(pb.ACTION_KIND_REROLL)


def test_another_seed_is_tried_after_repairs_only_when_it_promises_its_price() -> None:
    assert rerolls_at(40.0, racing())
    assert not rerolls_at(98.0, racing())
    assert rerolls_at(98.0, racing(price=0.01))
    plain = refine_pb2.RaceOptions(method=refine_pb2.RACE_METHOD_PLAIN)
    assert rerolls_at(98.0, plain), "who finishes everybody asks for no price"


def test_another_seed_that_a_fault_asks_for_is_tried_whatever_it_promises() -> None:
    assert rerolls_at(98.0, racing(), defect(pb.ACTION_KIND_REROLL))


class FlatteringEngine(DummyEngine):
    """Knows what the search critic likes, and gives it that when it repairs: garish noise instead of a picture."""

    def candidate(self, source: Any, mask: Any, prompt: str, **options: Any) -> Any:
        candidate = super().candidate(source, mask, prompt, **options)
        if options["seed"] > 5:
            noise = np.random.default_rng(options["seed"]).integers(0, 2, (*source.shape[:2], 3)) * 255
            candidate.result = lambda: np.where(mask[..., None] > 0.5, noise, source).astype(np.uint8)
        return candidate


def test_what_only_flatters_the_search_critic_is_not_accepted() -> None:
    def likes_noise(picture: np.ndarray, mask: np.ndarray) -> float:
        return 99.0 if np.ptp(picture[mask > 0.5], axis=-1).mean() > 120 else 30.0

    def likes_calm(picture: np.ndarray, mask: np.ndarray) -> float:
        return 100.0 - float(picture[mask > 0.5].std() / 2.55)

    request = request_for(count=1, repair_round_count=2)
    held_out = events_of(
        PlainCritic(likes_noise), request, engine=FlatteringEngine(), acceptance=PlainCritic(likes_calm)
    )
    assert "REPAIR" in decisions(held_out)
    assert "KEEP" not in decisions(held_out)
    assert held_out[-1].result.candidate_id == "seed-5"
    alone = events_of(PlainCritic(likes_noise), request, engine=FlatteringEngine())
    assert "KEEP" not in decisions(alone), (
        "even a critic that is fooled cannot have colours that its surroundings lack"
    )
    assert any("away from" in e.decision.reason for e in alone if e.HasField("decision"))
