"""The stopwatch that holds the docker to its promise."""

from __future__ import annotations

import threading

import pytest

from editcritic.plugin.krita import stopwatch
from editcritic.plugin.krita.stopwatch import timed, timing


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    fresh: dict[str, dict[str, float]] = {}
    monkeypatch.setattr(stopwatch, "TIMES", fresh)
    return fresh


def test_work_and_waiting_are_told_apart(times: dict[str, dict[str, float]]) -> None:
    with timing("waits"):
        threading.Event().wait(0.08)
    assert times["waits"]["wall_ms"] >= 75
    assert times["waits"]["own_ms"] >= 40, "a wait of the slot's own making counts"
    assert times["waits"]["work_ms"] < times["waits"]["wall_ms"] / 2


def test_the_longest_call_is_kept_and_calls_are_counted(times: dict[str, dict[str, float]]) -> None:
    @timed
    def slot(seconds: float) -> float:
        threading.Event().wait(seconds)
        return seconds

    assert [slot(0.03), slot(0.0)] == [0.03, 0.0]
    (entry,) = times.values()
    assert entry["count"] == 2
    assert entry["wall_ms"] >= 25


def test_a_slot_within_a_slot_counts_as_its_part(times: dict[str, dict[str, float]]) -> None:
    with timing("outer"), timing("inner"):
        pass
    assert list(times) == ["outer"]


def test_a_slot_that_fails_is_timed_too(times: dict[str, dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="broken"), timing("fails"):
        raise ValueError("broken")
    with timing("next"):
        pass
    assert list(times) == ["fails", "next"]
