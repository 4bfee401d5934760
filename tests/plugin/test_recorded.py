"""Candidates that are kept: told as they were, without the engine, and never half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from editcritic.plugin.recorded import RecordedEngine
from editcritic.refine.engine import load_engine
from editcritic.v1.errors import InvalidInput


class Counting:
    """The dummy engine; counts the steps that are really taken."""

    def __init__(self) -> None:
        self._inner = load_engine("dummy")
        self.capabilities = self._inner.capabilities
        self.steps = 0

    def candidate(self, *arguments: Any, **options: Any) -> Any:
        made = self._inner.candidate(*arguments, **options)
        whole = made.result

        def result() -> Any:
            picture = whole()
            self.steps += made.evaluations
            return picture

        made.result = result
        return made

    def advance(self, candidates: Any, to_fraction: float) -> None:
        self._inner.advance(candidates, to_fraction)


@pytest.fixture
def source() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 190, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros((48, 64), np.float32)
    mask[16:32, 20:40] = 1
    return mask


def test_a_kept_candidate_is_what_the_engine_gave_and_costs_no_step_again(
    tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    plain = load_engine("dummy").candidate(source, mask, "a ball", seed=3)
    for steps_run in (10, 0):  # made, then read
        engine = Counting()
        kept = RecordedEngine(engine, tmp_path).candidate(source, mask, "a ball", seed=3)
        kept.advance(0.4)
        plain_so_far = load_engine("dummy").candidate(source, mask, "a ball", seed=3)
        plain_so_far.advance(0.4)
        assert np.array_equal(kept.preview().picture, plain_so_far.preview().picture)
        assert kept.preview().region == plain_so_far.preview().region
        assert (kept.fraction, kept.evaluations, kept.state) == (0.4, 4, "waiting")
        assert np.array_equal(kept.result(), plain.result())
        assert (kept.fraction, kept.evaluations, kept.state) == (1.0, 10, "done")
        assert engine.steps == steps_run


def test_a_candidate_with_large_steps_is_kept_with_its_draft(
    tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    for _ in range(2):  # made, then read
        plain = load_engine("dummy").candidate(source, mask, "a ball", seed=3, large_steps=2)
        kept = RecordedEngine(load_engine("dummy"), tmp_path).candidate(
            source, mask, "a ball", seed=3, large_steps=2
        )
        for each in (plain, kept):
            each.advance(2 / 6)
        assert np.array_equal(kept.preview(in_full=True).picture, plain.preview(in_full=True).picture)
        assert kept.evaluations == plain.evaluations == 2
        assert np.array_equal(kept.result(), plain.result())
        assert kept.evaluations == plain.evaluations == 6


def test_candidates_that_advance_together_are_kept_one_by_one(
    tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    engine = RecordedEngine(load_engine("dummy"), tmp_path)
    party = [engine.candidate(source, mask, "a ball", seed=seed) for seed in (1, 2)]
    engine.advance(party, 0.2)
    assert [each.evaluations for each in party] == [2, 2]
    assert not np.array_equal(party[0].result(), party[1].result())
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("change", [{"seed": 4}, {"prompt": "a cube"}, {"strength": 0.5}, {"grow": 1}])
def test_another_wish_is_another_candidate(
    change: dict[str, Any], tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    engine = RecordedEngine(load_engine("dummy"), tmp_path)
    wish: dict[str, Any] = {"prompt": "a ball", "seed": 3}
    engine.candidate(source, mask, **wish).result()
    if change.pop("grow", 0):
        mask = np.roll(mask, 1)
    engine.candidate(source, mask, **{**wish, **change}).result()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_time_of_a_kept_candidate_is_told_as_if_it_ran(
    tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    first = RecordedEngine(load_engine("dummy"), tmp_path)
    first.candidate(source, mask, "a ball", seed=3).advance(0.4)
    part = first.seconds
    first.candidate(source, mask, "a ball", seed=3).result()
    again = RecordedEngine(load_engine("dummy"), tmp_path)
    again.candidate(source, mask, "a ball", seed=3).result()
    assert 0 < part < again.seconds
    assert again.seconds == pytest.approx(first.seconds - part)


def test_a_share_that_was_not_recorded_is_refused(
    tmp_path: Path, source: np.ndarray, mask: np.ndarray
) -> None:
    with pytest.raises(InvalidInput, match=r"0.35 of the steps was not recorded"):
        RecordedEngine(load_engine("dummy"), tmp_path).candidate(source, mask, "a ball", seed=3).advance(0.35)
