"""Readers of previews are learned from what previews became, and their deviations from edits left aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from editcritic.server.training.forecast import PreviewSamples, fit_readers, out_of_fold, rank_correlations
from editcritic.server.training.recorded_previews import RecordedEdit, read_recorded, save_recorded
from editcritic.v1.errors import InvalidInput

NOISE = 2.0


def samples(edits: int = 200, answers: int = 6, *, told: float = 1.0) -> PreviewSamples:
    """Finals that are a sum of features of the preview (clearer at the second share), of noise, and of the edit."""
    rng = np.random.default_rng(3)
    count = edits * answers
    cause = rng.normal(size=(count, 4))
    features = np.stack([cause + rng.normal(size=cause.shape), cause], 1)
    own = np.repeat(rng.normal(size=(edits, 1)), answers, 0)
    finals = 60 + told * 5 * cause[:, :2] + own + rng.normal(0, NOISE, (count, 2))
    alignment = np.column_stack([np.full(count, 50.0), np.full(count, 50.0), 50 + rng.normal(0, 9, count)])
    return PreviewSamples(
        np.array([0.2, 0.6]), np.repeat(np.arange(edits), answers), features, finals, alignment
    )


def test_what_a_preview_tells_is_found() -> None:
    readers = fit_readers(samples())
    present = np.array([[0.0, 0.0], [0.0, 0.0], [50.0, 1.0]])
    high, low = (readers.forecast(np.array([sign, 0, 0, 0]), 0.6, present)[0, 0] for sign in (1.0, -1.0))
    assert 2 < (high - low) / 2 < 5, "a heavy ridge shrinks the slope of 5, and keeps its sign"
    early, late = rank_correlations(samples())
    assert 0.5 < early < late


def test_deviations_are_those_within_an_edit() -> None:
    residual = fit_readers(samples()).residual
    assert residual[1, 0] < residual[0, 0] < 5
    assert residual[1, 0] == pytest.approx(np.hypot(NOISE, 5 * 0.45), rel=0.25)
    assert residual[0, 2] == pytest.approx(9, rel=0.1), "prompt alignment's, from the previews' own reading"


def test_edits_that_are_asked_about_are_not_learned_from() -> None:
    noise = samples(told=0.0)
    assert all(abs(found) < 0.15 for found in rank_correlations(noise))
    spoiled = noise.finals.copy()
    spoiled[noise.edits == 0] = 0.0
    changed = PreviewSamples(noise.shares, noise.edits, noise.features, spoiled, noise.alignment)
    first = noise.edits == 0
    np.testing.assert_array_equal(out_of_fold(changed)[first], out_of_fold(noise)[first])


def test_a_handful_of_edits_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 20"):
        fit_readers(samples(edits=5))


def test_recorded_edits_come_back_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    edit = RecordedEdit(
        "0001",
        rng.integers(0, 255, (8, 10, 3), dtype=np.uint8),
        rng.random((8, 10)).astype(np.float32),
        rng.random((8, 10)).astype(np.float32),
        "a red ball",
        [0.2, 0.6],
        rng.integers(0, 255, (2, 3, 8, 10, 3), dtype=np.uint8),
    )
    save_recorded(edit, tmp_path)
    (kept,) = read_recorded(tmp_path)
    assert (kept.name, kept.prompt, kept.shares) == ("0001", "a red ball", [0.2, 0.6])
    np.testing.assert_array_equal(kept.pictures, edit.pictures)
    np.testing.assert_array_equal(kept.blend, edit.blend)


def test_a_folder_without_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no recorded previews"):
        read_recorded(tmp_path)
    (tmp_path / "0001.npz").write_bytes(b"no archive")
    with pytest.raises(InvalidInput, match="0001"):
        read_recorded(tmp_path)
