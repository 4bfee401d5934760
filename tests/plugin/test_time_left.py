"""Time left: never promised before something was measured, never less than what may still come, gone at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from editcritic.plugin.cli.edit_view import EditView
from editcritic.plugin.cli.time_left import TimeLeft
from editcritic.refine.engine import load_engine
from editcritic.refine.loop import Refinement
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import defect, request_for

Event = refine_pb2.RefineResponse


def begun(candidates: int = 2, rounds: int = 1, steps: int = 10, **budget: Any) -> TimeLeft:
    left = TimeLeft()
    started = refine_pb2.RunStarted(
        sampling=refine_pb2.SamplingOptions(candidate_count=candidates, step_count=steps),
        budget=refine_pb2.RefineBudget(repair_round_count=rounds, **budget),
    )
    left.take(Event(started=started))
    left.take(Event(elapsed_ms=1, candidate_started=refine_pb2.CandidateStarted(candidate_id="a")))
    return left


def preview(name: str, step: int, elapsed_ms: int) -> Event:
    progress = pb.DenoisingProgress(fraction=0.5, step=step)
    return Event(elapsed_ms=elapsed_ms, preview=refine_pb2.PreviewTaken(candidate_id=name, progress=progress))


def finished(name: str, steps: int, elapsed_ms: int) -> Event:
    done = refine_pb2.CandidateFinished(candidate_id=name, evaluation_count=steps)
    return Event(elapsed_ms=elapsed_ms, candidate_finished=done)


def decision(kind: refine_pb2.DecisionKind.ValueType, name: str = "a") -> Event:
    return Event(decision=refine_pb2.Decision(kind=kind, candidate_id=name))


def test_nothing_is_said_before_a_step_was_measured() -> None:
    assert begun().words() == ""


def test_steps_that_may_still_come_cost_what_steps_cost_until_now() -> None:
    left = begun()
    left.take(preview("a", 5, 1000))
    # 5 of this candidate, 10 of the next, 10 of a repair, at 0.2 s.
    assert left.most_s == 5.0
    assert left.words() == "at most 5 s left"
    left.take(finished("a", 10, 2000))
    assert left.most_s == 4.0


def test_what_was_dropped_or_failed_or_is_not_needed_any_more_is_not_counted() -> None:
    left = begun(candidates=2, rounds=1)
    left.take(preview("a", 5, 1000))
    left.take(decision(refine_pb2.DECISION_KIND_DROP))
    assert left.most_s == 4.0
    left.take(decision(refine_pb2.DECISION_KIND_SELECT, "b"))
    assert left.most_s == 2.0
    left.take(Event(result=refine_pb2.RefineResult()))
    assert left.words() == ""


def test_the_budget_caps_it() -> None:
    left = begun(evaluation_count=12)
    left.take(preview("a", 5, 1000))
    assert left.most_s == pytest.approx(1.4)
    tight = begun(evaluation_count=1)
    tight.take(preview("a", 5, 1000))
    assert tight.most_s == pytest.approx(1.0)
    timed = begun(time_ms=1500)
    timed.take(preview("a", 5, 1000))
    # Half a second of the budget, and the candidate that was begun is finished.
    assert timed.most_s == pytest.approx(1.5)


def test_minutes_are_minutes_and_parts_of_a_second_are_rounded_up() -> None:
    left = begun(candidates=1, rounds=0, steps=10)
    left.take(preview("a", 1, 10_000))
    assert left.words() == "at most 1 min 30 s left"
    short = begun(candidates=1, rounds=0, steps=10)
    short.take(preview("a", 9, 90))
    assert short.words() == "at most 1 s left"


def test_the_bound_in_steps_never_falls_short_of_a_real_run() -> None:
    critic = PlainCritic(
        lambda picture, mask: float(np.mean(picture[mask > 0.5])) / 10,
        defects=[defect(pb.ACTION_KIND_RECOLOUR, pb.ACTION_KIND_REROLL)],
    )
    events = list(Refinement(load_engine("dummy"), critic, request_for(count=3, repair_round_count=2)).run())
    left, view = TimeLeft(), EditView()
    total = events[-1].result.evaluation_count
    for number, event in enumerate(events):
        event.elapsed_ms = 1000 * (number + 1)
        left.take(event)
        view.take(event)
        done = left._closed_steps + sum(left._open.values())
        if left.most_s is not None:
            assert done + left._steps_left() >= total
            assert view.table().caption == left.words()
    assert view.table().caption is None


def test_a_leader_that_is_refused_is_shown_as_such_and_not_the_newest_candidate() -> None:
    view = EditView()
    for name in "ab":
        view.take(Event(candidate_started=refine_pb2.CandidateStarted(candidate_id=name)))
    view.take(decision(refine_pb2.DECISION_KIND_ROLL_BACK))
    refused, newest = (str(list(view.table().columns)[-1]._cells[number]) for number in (0, 1))
    assert "rolled back" in refused
    assert "rolled back" not in newest
