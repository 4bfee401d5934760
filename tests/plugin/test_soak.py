"""The soak: a small one for real, and a verdict that tells a leak from none."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from typer.testing import CliRunner

from editcritic.plugin.cli.app import app
from editcritic.plugin.process_figures import process_figures
from editcritic.plugin.soak import Soak, run_soak, soak_rows, soak_verdict
from editcritic.plugin.soak_load import Tally, make_cases
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded


def course(*resident_mib: float, descriptors: int = 20, threads: int = 10) -> list[dict[str, float]]:
    """A hundred points, with memory in equal stretches."""
    each = 100 // len(resident_mib)
    return [
        {"resident_kib": round(1024 * mib), "descriptors": descriptors, "threads": threads}
        for mib in resident_mib
        for _ in range(each)
    ]


ENDS = {"finished": 70, "cancelled": 30}


def test_what_is_filled_in_the_first_tenth_is_no_leak() -> None:
    assert soak_verdict([*course(50)[:10], *course(100)[10:]], ENDS)["is_flat"]


def test_a_single_look_is_no_growth_and_a_tenth_is() -> None:
    seen = course(100)
    seen[55]["resident_kib"] *= 1.2
    assert soak_verdict(seen, ENDS)["is_flat"]
    assert soak_verdict(seen, ENDS)["resident_kib"]["highest"] == pytest.approx(120 * 1024)
    for point in seen[50:60]:
        point["resident_kib"] = 1024 * 110
    assert not soak_verdict(seen, ENDS)["is_flat"]


def test_memory_that_grows_by_more_than_five_percent_is_a_leak() -> None:
    assert not soak_verdict(course(100, 102, 104, 106), ENDS)["is_flat"]
    assert soak_verdict(course(100, 102, 104), ENDS)["is_flat"]


def test_files_and_threads_that_stay_are_a_leak() -> None:
    for more in ({"descriptors": 60}, {"threads": 40}):
        assert not soak_verdict([*course(100), *course(100, **more)], ENDS)["is_flat"]


@pytest.mark.parametrize("end", ["INTERNAL", "UNAVAILABLE", "WRONG SCORE", "a candidate: candidate_error"])
def test_a_call_that_ends_in_another_way_is_told(end: str) -> None:
    verdict = soak_verdict(course(100), {**ENDS, end: 1})
    assert verdict["unexpected"] == {end: 1}
    assert not verdict["is_flat"]


def test_a_score_of_another_candidate_is_noticed() -> None:
    (case,) = make_cases(1, 2, seed=0)
    case.expected.extend([10.0, 20.0])
    tally, critique = Tally(), pb.Critique()
    critique.scores.overall.value = 10.00001
    tally.check(case, 0, critique)
    assert tally.calls == Counter()
    tally.check(case, 1, critique)
    assert tally.calls == Counter({"WRONG SCORE": 1})
    assert tally.scores == 2


@pytest.mark.parametrize("critic", ["dummy", "evidence"])
def test_a_small_soak(critic: str) -> None:
    said: list[str] = []
    soak = Soak(count=300, critic=critic, cancelled=0.3, swaps=3, callers=6)
    result = run_soak(soak, said.append)
    assert json.loads(json.dumps(result)) == result
    assert result["scores"] >= 300
    assert result["swaps"] == 3
    assert result["verdict"]["unexpected"] == {}, "every score was its own, across swaps and cancelled calls"
    assert result["calls"]["cancelled"] > 0
    assert len(result["course"]) == 101 == len(said)
    rows = soak_rows(result)
    assert (rows[0][0], rows[-1][0]) == ("0%", "100%")
    assert all(point["resident_kib"] > 10_000 for point in result["course"])


def test_a_soak_that_has_too_little_time_says_so() -> None:
    with pytest.raises(DeadlineExceeded, match="give more time"):
        run_soak(Soak(count=10_000_000, callers=2, swaps=0, seconds=0.5))


def test_the_command_tells_the_course_and_fails_when_it_is_not_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(soak: Soak, progress: Any) -> dict[str, Any]:
        told = [
            {**point, "scores": soak.count * number / 100, "seconds": 1.0}
            for number, point in enumerate(course(100, 120, descriptors=20))
        ]
        fields = {"soak": {"count": soak.count}, "rate": 7.0, "swaps": soak.swaps, "calls": ENDS}
        return {**fields, "course": told, "verdict": soak_verdict(told, ENDS)}

    monkeypatch.setattr("editcritic.plugin.soak.run_soak", fake)
    done = CliRunner().invoke(app, ["bench", "serve", "--soak", "1000", "--swaps", "2"])
    assert done.exit_code == 1
    assert "NOT FLAT" in done.output
    assert "+20.0%" in done.output


def test_a_process_that_is_not_there_has_no_figures() -> None:
    assert process_figures(None) == {}
