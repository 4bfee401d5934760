"""The loop: what it chooses, what it keeps, when it stops, and that a killed run ends as if nothing had happened."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from editcritic.refine.dummy import DummyEngine
from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.race import RaceOptions
from editcritic.refine.request import completed_request
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import ImageError, InvalidInput, NotFound, ServerFault, ServerUnavailable
from editcritic.v1.images import decode_image, decode_mask, encode_image, encode_mask
from tests.refine.critics import PlainCritic, brightness

Events = list[refine_pb2.RefineResponse]


def request_for(
    edit_id: str = "mine",
    seed: int = 5,
    count: int = 3,
    race: refine_pb2.RaceOptions | None = None,
    **budget: Any,
) -> refine_pb2.RefineRequest:
    """A small edit. Without `race` everybody is finished, so that what follows does not hang on who was dropped."""
    rng = np.random.default_rng(3)
    mask = np.zeros((48, 64), np.float32)
    mask[16:32, 20:40] = 1
    return completed_request(
        refine_pb2.RefineRequest(
            edit=pb.Edit(
                edit_id=edit_id,
                source=encode_image(rng.integers(60, 190, (48, 64, 3), dtype=np.uint8)),
                denoise_mask=encode_mask(mask),
                prompt="a ball",
            ),
            sampling=refine_pb2.SamplingOptions(seed=seed, candidate_count=count),
            budget=refine_pb2.RefineBudget(**({"target_score": 100.0} | budget)),
            race=race or refine_pb2.RaceOptions(method=refine_pb2.RACE_METHOD_PLAIN),
        )
    )


def events_of(critic: PlainCritic, request: refine_pb2.RefineRequest, **options: Any) -> Events:
    engine = options.pop("engine", None) or load_engine("dummy")
    return list(Refinement(engine, critic, request, **options).run())


def kinds(events: Events) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def decisions(events: Events) -> list[str]:
    return [
        refine_pb2.DecisionKind.Name(event.decision.kind).removeprefix("DECISION_KIND_")
        for event in events
        if event.HasField("decision")
    ]


def stop_reason(events: Events) -> str:
    return refine_pb2.StopReason.Name(events[-1].result.stop_reason).removeprefix("STOP_REASON_")


def scores(events: Events) -> dict[str, float]:
    """Overall score of every finished candidate."""
    return {
        event.critique.candidate_id: event.critique.scores.overall.value
        for event in events
        if event.HasField("critique") and not event.critique.HasField("progress")
    }


def defect(*actions: pb.ActionKind.ValueType) -> pb.Defect:
    return pb.Defect(
        kind=pb.DEFECT_KIND_UNSPECIFIED,  # no rule knows it, so what the critic suggests is done
        severity=0.6,
        box=pb.Box(x=20, y=16, width=4, height=4),
        explanation="the inside is too dark",
        actions=[pb.SuggestedAction(kind=kind) for kind in actions],
    )


def test_a_run_tells_everything_in_order_and_ends_with_the_result() -> None:
    events = events_of(PlainCritic(), request_for(count=2, repair_round_count=0))
    looks = len(RaceOptions().rungs)
    one = ["candidate_started", *["preview", "critique"] * looks, "candidate_finished", "critique"]
    assert kinds(events) == ["started", *one, *one, "decision", "result"]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.elapsed_ms for event in events] == sorted(event.elapsed_ms for event in events)
    started = events[0].started
    assert (started.edit_id, started.engine.name, started.search_critic.name) == ("mine", "dummy", "plain")
    assert [e.candidate_started.seed for e in events if e.HasField("candidate_started")] == [5, 6]


def test_the_best_candidate_is_handed_back_with_its_critique() -> None:
    events = events_of(PlainCritic(), request_for(count=4, repair_round_count=0))
    result, found = events[-1].result, scores(events)
    assert result.candidate_id == max(found, key=found.__getitem__)
    assert result.critique.scores.overall.value == max(found.values())
    assert result.plain_score == found["seed-5"]
    assert result.evaluation_count == 40
    request = request_for()
    picture, source = decode_image(result.image), decode_image(request.edit.source)
    beyond = decode_mask(request.edit.blend_mask) == 0
    np.testing.assert_array_equal(picture[beyond], source[beyond])


def test_what_is_uncertain_leads_only_when_it_is_surely_better_and_never_below_plain() -> None:
    # The doubt grows with the score: the lower bound prefers the darker one, the result still does not lose to seed 5.
    class Doubting(PlainCritic):
        def critique(self, *arguments: Any) -> pb.Critique:
            judged = super().critique(*arguments)
            overall = judged.scores.overall
            overall.stddev = max(0.0, 3 * (overall.value - 20))
            return judged

    for seed in range(6):
        events = events_of(Doubting(), request_for(seed=seed, count=3, repair_round_count=1))
        assert events[-1].result.critique.scores.overall.value >= events[-1].result.plain_score


def test_reaching_the_target_is_accepted_without_repairs() -> None:
    events = events_of(PlainCritic(defects=[defect(pb.ACTION_KIND_RECOLOUR)]), request_for(target_score=1.0))
    assert decisions(events) == ["SELECT", "ACCEPT"]
    assert stop_reason(events) == "TARGET_REACHED"


@pytest.mark.parametrize(("gain", "decision"), [(9.0, "KEEP"), (1.0, "ROLL_BACK"), (-5.0, "ROLL_BACK")])
def test_a_repair_is_kept_only_on_a_gain_beyond_the_doubt(gain: float, decision: str) -> None:
    calls = itertools.count()

    def rising(_picture: np.ndarray, _mask: np.ndarray) -> float:
        # The previews and the answer of one seed, then the repair.
        return 40.0 if next(calls) <= len(RaceOptions().rungs) else 40.0 + gain

    events = events_of(PlainCritic(rising, stddev=2.0), request_for(count=1, repair_round_count=1))
    assert decisions(events) == ["SELECT", "REPAIR", decision]
    assert events[-1].result.candidate_id == ("repair-1" if decision == "KEEP" else "seed-5")
    assert f"{40 + gain:.1f}" in [e.decision.reason for e in events if e.HasField("decision")][-1]


def test_repairs_come_cheapest_first_and_two_that_cost_steps_without_gain_end_the_run() -> None:
    critic = PlainCritic(
        lambda _p, _m: 40.0,
        defects=[
            defect(
                pb.ACTION_KIND_REROLL,
                pb.ACTION_KIND_BLEND,
                pb.ACTION_KIND_REPROMPT,
                pb.ACTION_KIND_RECOLOUR,
            )
        ],
    )
    events = events_of(critic, request_for(count=1, repair_round_count=4))
    chosen = [e.decision.action.kind for e in events if e.decision.kind == refine_pb2.DECISION_KIND_REPAIR]
    assert chosen == [
        pb.ACTION_KIND_BLEND,
        pb.ACTION_KIND_RECOLOUR,
        pb.ACTION_KIND_REPROMPT,
        pb.ACTION_KIND_REROLL,
    ]
    assert decisions(events)[1:] == ["REPAIR", "ROLL_BACK"] * 4
    assert stop_reason(events) == "NO_GAIN"
    reasons = [e.decision.reason for e in events if e.decision.kind == refine_pb2.DECISION_KIND_REPAIR]
    assert reasons[:2] == ["the inside is too dark"] * 2


def test_repairs_without_diffusion_are_no_rounds_and_cost_no_step() -> None:
    critic = PlainCritic(lambda _p, _m: 40.0, defects=[defect(pb.ACTION_KIND_RECOLOUR, pb.ACTION_KIND_BLEND)])
    events = events_of(critic, request_for(count=1, repair_round_count=1))
    assert decisions(events)[1:] == ["REPAIR", "ROLL_BACK"] * 3, (
        "two that are free, and the reroll is the round"
    )
    assert events[-1].result.evaluation_count == 20
    none = events_of(critic, request_for(count=1, repair_round_count=0))
    assert decisions(none) == ["SELECT"]


@pytest.mark.parametrize(("limit", "made"), [(1, 1), (10, 1), (25, 2), (0, 4)])
def test_the_budget_of_steps_is_kept_and_one_answer_is_always_given(limit: int, made: int) -> None:
    request = request_for(count=4, evaluation_count=limit, repair_round_count=0)
    events = events_of(PlainCritic(), request)
    assert kinds(events).count("candidate_finished") == made
    assert events[-1].result.evaluation_count == 10 * made
    assert stop_reason(events) == "BUDGET_SPENT"
    assert events[-1].result.candidate_id


def test_the_budget_of_time_is_kept() -> None:
    class Slow(DummyEngine):
        def candidate(self, *arguments: Any, **options: Any) -> Any:
            import time

            time.sleep(0.05)
            return super().candidate(*arguments, **options)

    events = events_of(PlainCritic(), request_for(count=30, time_ms=120), engine=Slow())
    assert 1 <= kinds(events).count("candidate_finished") < 10
    assert stop_reason(events) == "BUDGET_SPENT"


def test_cancelling_hands_back_the_best_so_far_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    journal, request = Journal(tmp_path / "journal.sqlite3"), request_for(count=3, repair_round_count=0)
    run = Refinement(load_engine("dummy"), PlainCritic(), request, journal)
    events: Events = []
    for event in run.run():
        events.append(event)
        if event.candidate_finished.candidate_id == "seed-6":
            run.cancel()
    assert stop_reason(events) == "CANCELLED"
    found = scores(events)
    assert events[-1].result.candidate_id == max(found, key=found.__getitem__)

    resumed = events_of(PlainCritic(), request, journal=journal)
    straight = events_of(PlainCritic(), request)
    assert resumed[-1].result.image == straight[-1].result.image
    assert stop_reason(resumed) == "BUDGET_SPENT"


def without_time(events: Events) -> Events:
    copies = []
    for event in events:
        copy = refine_pb2.RefineResponse()
        copy.CopyFrom(event)
        copy.elapsed_ms = 0
        copies.append(copy)
    return copies


def test_a_run_that_is_killed_after_any_event_resumes_to_the_same_end(tmp_path: Path) -> None:
    critic_of = lambda: PlainCritic(defects=[defect(pb.ACTION_KIND_RECOLOUR, pb.ACTION_KIND_REROLL)])  # noqa: E731
    straight = events_of(critic_of(), request_for(count=2, repair_round_count=2))
    assert "REPAIR" in decisions(straight)
    for length in range(1, len(straight) + 1):
        journal = Journal(tmp_path / f"{length}.sqlite3")
        request = request_for(count=2, repair_round_count=2)
        killed = Refinement(load_engine("dummy"), critic_of(), request, journal).run()
        for _ in range(length):
            next(killed)
        killed.close()  # type: ignore[attr-defined]
        again = critic_of()
        resumed = events_of(again, journal.request("mine"), journal=journal)
        assert without_time(resumed) == without_time(straight), f"killed after event {length}"
        judged_before = kinds(straight)[:length].count("critique")
        assert len(again.seen) == kinds(straight).count("critique") - judged_before


def test_a_journal_of_another_loop_is_not_continued(tmp_path: Path) -> None:
    journal, request = Journal(tmp_path / "journal.sqlite3"), request_for()
    journal.begin("mine", request)
    journal.append("mine", refine_pb2.RefineResponse(sequence=1, result=refine_pb2.RefineResult()))
    with pytest.raises(ServerFault, match="another version"):
        events_of(PlainCritic(), request, journal=journal)


def test_one_candidate_that_fails_is_told_and_the_others_go_on() -> None:
    critic = PlainCritic(fails_on=lambda name: ServerFault("broken") if name == "seed-6" else None)
    events = events_of(critic, request_for(count=3, repair_round_count=0))
    failed = [event.candidate_error for event in events if event.HasField("candidate_error")]
    assert {error.candidate_id for error in failed} == {"seed-6"}
    assert all(error.status.message == "broken" for error in failed)
    assert set(scores(events)) == {"seed-5", "seed-7"}
    assert events[-1].result.candidate_id in ("seed-5", "seed-7")


def test_when_all_fail_the_source_comes_back_with_the_reason() -> None:
    critic = PlainCritic(fails_on=lambda _name: ServerFault("broken"))
    request = request_for(count=2)
    result = events_of(critic, request)[-1].result
    assert refine_pb2.StopReason.Name(result.stop_reason) == "STOP_REASON_FAILED"
    assert (result.candidate_id, result.image) == ("", request.edit.source)
    assert result.error.message == "broken"


def test_a_critic_that_abstains_leaves_it_to_the_person() -> None:
    events = events_of(PlainCritic(lambda _p, _m: None), request_for(count=2))
    assert decisions(events) == ["ASK"]
    assert stop_reason(events) == "ASK"
    assert events[-1].result.candidate_id == "seed-5"
    assert "too dark" in next(e.decision.reason for e in events if e.HasField("decision"))


def darkness(picture: np.ndarray, mask: np.ndarray) -> float:
    """The opposite of what the usual critic likes."""
    return 100.0 - brightness(picture, mask)


def test_a_repair_that_the_acceptance_critic_finds_worse_is_rolled_back() -> None:
    for seed in range(6):
        acceptance = PlainCritic(darkness)
        events = events_of(
            PlainCritic(), request_for(seed=seed, count=1, repair_round_count=1), acceptance=acceptance
        )
        assert decisions(events)[1:] == ["REPAIR", "ROLL_BACK"]
    reasons = [e.decision.reason for e in events if e.decision.kind == refine_pb2.DECISION_KIND_ROLL_BACK]
    assert "overall went from" in reasons[0]


def test_a_repair_is_kept_when_one_critic_gains_and_the_other_does_not_fall() -> None:
    calls = itertools.count()

    def rising(_picture: np.ndarray, _mask: np.ndarray) -> float:
        return 40.0 if next(calls) <= len(RaceOptions().rungs) else 60.0

    indifferent = PlainCritic(lambda _p, _m: 50.0)
    request = request_for(count=1, repair_round_count=1)
    events = events_of(PlainCritic(rising), request, acceptance=indifferent)
    assert "KEEP" in decisions(events)
    result = events[-1].result
    assert (result.acceptance_critique.scores.overall.value, result.plain_acceptance_score) == (50.0, 50.0)


def fits_in(picture: np.ndarray, mask: np.ndarray) -> float:
    """How near the colour of the inside is to that of the outside, 0 to 100."""
    inside, outside = (picture[part].mean(axis=0) for part in (mask > 0.5, mask < 0.5))
    return float(100 - np.abs(inside - outside).max() / 2.55)


def is_bluish(picture: np.ndarray, mask: np.ndarray) -> float:
    return 80.0 if picture[mask > 0.5][:, 2].mean() > 100 else 40.0


def test_a_leader_that_the_acceptance_critic_refuses_leads_once_it_is_mended_without_denoising() -> None:
    recolour = defect(pb.ACTION_KIND_RECOLOUR)
    # The first seed paints a dull brown, the second a glaring blue.
    request = request_for(seed=39, count=2, repair_round_count=0)
    events = events_of(PlainCritic(is_bluish, defects=[recolour]), request, acceptance=PlainCritic(fits_in))
    # Another repair of the mended one gains nothing, and the mended one leads.
    assert decisions(events) == ["SELECT", "REPAIR", "KEEP", "REPAIR", "ROLL_BACK"]
    result = events[-1].result
    assert result.candidate_id == "repair-1"
    assert (result.plain_score, result.critique.scores.overall.value) == (40.0, 80.0)
    assert result.acceptance_critique.scores.overall.value > result.plain_acceptance_score
    assert result.evaluation_count == 20, "two candidates of ten steps, and a repair that takes none"


def test_cancelling_while_a_leader_is_mended_hands_back_the_first_seeds_answer() -> None:
    critic = PlainCritic(is_bluish, defects=[defect(pb.ACTION_KIND_RECOLOUR)])
    request = request_for(seed=39, count=2, repair_round_count=0)
    refinement = Refinement(load_engine("dummy"), critic, request, acceptance=PlainCritic(fits_in))
    events = []
    for event in refinement.run():
        events.append(event)
        if event.decision.kind == refine_pb2.DECISION_KIND_KEEP:
            refinement.cancel()
    assert decisions(events) == ["SELECT", "REPAIR", "KEEP"]
    assert stop_reason(events) == "CANCELLED"
    assert events[-1].result.candidate_id == "seed-39", "nobody has agreed to another one yet"


def test_a_leader_that_mending_does_not_save_leaves_the_lead_to_the_first_seed() -> None:
    request = request_for(seed=39, count=2, repair_round_count=0)
    events = events_of(PlainCritic(is_bluish), request, acceptance=PlainCritic(fits_in))
    assert decisions(events) == ["SELECT", "ROLL_BACK"]
    assert events[-1].result.candidate_id == "seed-39"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: r.ClearField("edit"), "edit"),
        (lambda r: setattr(r.sampling, "candidate_count", 65), "sampling.candidate_count"),
        (lambda r: setattr(r.sampling, "step_count", -1), "sampling.step_count"),
        (lambda r: setattr(r.budget, "repair_round_count", 5), "budget.repair_round_count"),
        (lambda r: setattr(r.budget, "target_score", float("nan")), "budget.target_score"),
    ],
)
def test_impossible_requests_are_refused_by_field(change: Any, field: str) -> None:
    request = request_for()
    change(request)
    with pytest.raises(InvalidInput) as told:
        completed_request(request)
    assert told.value.field == field


def test_an_empty_mask_is_refused() -> None:
    request = request_for()
    request.edit.denoise_mask.CopyFrom(encode_mask(np.zeros((48, 64), np.float32)))
    with pytest.raises(ImageError, match="empty"):
        completed_request(request)


def test_defaults_are_filled_in_and_the_seed_is_told() -> None:
    request = request_for()
    request.ClearField("sampling")
    request.ClearField("budget")
    request.edit.edit_id = ""
    full = completed_request(request)
    assert full.edit.edit_id
    assert full.sampling.HasField("seed")
    assert (full.sampling.candidate_count, full.budget.repair_round_count) == (4, 2)
    assert request.sampling.candidate_count == 0, "the caller's request is not changed"


def test_the_journal_lists_the_newest_edits_page_by_page(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "journal.sqlite3")
    for number in range(5):
        events_of(
            PlainCritic(), request_for(f"edit-{number}", count=2, repair_round_count=0), journal=journal
        )
    first = journal.edits(page_size=3)
    second = journal.edits(page_size=3, page_token=first.next_page_token)
    assert [edit.edit_id for edit in (*first.edits, *second.edits)] == [f"edit-{n}" for n in (4, 3, 2, 1, 0)]
    assert second.next_page_token == ""
    assert first.edits[0].candidate_count == 2
    assert first.edits[0].overall == pytest.approx(
        journal.events("edit-4")[-1].result.critique.scores.overall.value
    )
    assert first.edits[0].stop_reason == refine_pb2.STOP_REASON_BUDGET_SPENT


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x" * 5000)
    with pytest.raises(InvalidInput, match="no journal"):
        Journal(tmp_path / "photo.png")
    journal = Journal(tmp_path / "journal.sqlite3")
    with pytest.raises(NotFound, match="'gone'"):
        journal.request("gone")
    journal.begin("mine", request_for())
    journal.begin("mine", request_for())
    with pytest.raises(InvalidInput, match="already"):
        journal.begin("mine", request_for(seed=6))
    with pytest.raises(InvalidInput, match="page_token"):
        journal.edits(page_token="next")


def test_an_edit_of_that_name_that_asked_for_something_else_is_not_overwritten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    before = events_of(PlainCritic(), request_for(count=1), journal=journal)
    with pytest.raises(InvalidInput, match="something else"):
        events_of(PlainCritic(), request_for(count=2), journal=journal)
    assert without_time(journal.events("mine")) == without_time(before)


def test_a_run_that_was_killed_before_its_first_event_can_be_resumed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    Refinement(load_engine("dummy"), PlainCritic(), request_for(count=1), journal)
    resumed = events_of(PlainCritic(), journal.request("mine"), journal=journal)
    assert without_time(resumed) == without_time(events_of(PlainCritic(), request_for(count=1)))


def test_a_run_that_ended_for_want_of_time_is_told_again_as_it_was(tmp_path: Path) -> None:
    journal, request = Journal(tmp_path / "journal.sqlite3"), request_for(count=30, time_ms=1)
    first = events_of(PlainCritic(), request, journal=journal)
    assert kinds(first).count("candidate_finished") == 1
    assert without_time(events_of(PlainCritic(), request, journal=journal)) == without_time(first)


def test_a_critic_that_cannot_be_reached_ends_the_run_and_is_not_held_against_a_candidate(
    tmp_path: Path,
) -> None:
    journal, request = Journal(tmp_path / "journal.sqlite3"), request_for(count=2)
    gone = PlainCritic(fails_on=lambda name: ServerUnavailable("gone") if name == "seed-6" else None)
    with pytest.raises(ServerUnavailable):
        events_of(gone, request, journal=journal)
    resumed = events_of(PlainCritic(), request, journal=journal)
    assert without_time(resumed) == without_time(events_of(PlainCritic(), request))


def test_an_engine_that_refuses_a_repair_does_not_end_the_run() -> None:
    class Refusing(DummyEngine):
        def candidate(self, *arguments: Any, **options: Any) -> Any:
            if options["seed"] > 5:
                raise InvalidInput("not with this engine")
            return super().candidate(*arguments, **options)

    events = events_of(PlainCritic(), request_for(count=1, repair_round_count=2), engine=Refusing())
    assert stop_reason(events) == "NO_ACTION_LEFT"
    assert events[-1].result.candidate_id == "seed-5"
