"""Some engines move the picture; what lies outside the mask tells by how much."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from editcritic.refine.alignment import MAX_SHIFT, aligned, ring_shift


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """(96, 96, 3) of texture."""
    noise = gaussian_filter(np.random.default_rng(3).normal(size=(96, 96, 3)), (1.2, 1.2, 0))
    return np.clip(0.5 + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def middle() -> np.ndarray:
    """(96, 96): the middle may change."""
    mask = np.zeros((96, 96), np.float32)
    mask[32:64, 32:64] = 1
    return mask


@pytest.mark.parametrize("moved", [(0.0, 0.0), (3.0, -2.0), (0.5, 0.5), (-6.4, 1.7)])
def test_a_shift_is_measured_to_a_fraction_of_a_pixel(
    scene: np.ndarray, middle: np.ndarray, moved: tuple[float, float]
) -> None:
    picture = shift(scene, (*moved, 0), order=3, mode="nearest")
    picture[32:64, 32:64] = 0.2
    dy, dx, peak = ring_shift(scene, picture, middle)
    assert (dy, dx) == pytest.approx(moved, abs=0.25)
    assert peak > 0.12


def test_a_shifted_picture_is_moved_back(scene: np.ndarray, middle: np.ndarray) -> None:
    picture = shift(scene, (3, -2, 0), order=1, mode="nearest")
    back, undone = aligned(scene, picture, middle)
    inside = slice(10, -10)
    assert undone == pytest.approx((3, -2), abs=0.25)
    error_after = np.abs(back - scene)[inside, inside].mean()
    assert error_after < 0.2 * np.abs(picture - scene)[inside, inside].mean()


def test_a_picture_in_place_is_not_touched(scene: np.ndarray, middle: np.ndarray) -> None:
    back, undone = aligned(scene, scene, middle)
    assert back is scene
    assert undone == (0.0, 0.0)


def test_another_scene_is_not_dragged_about(scene: np.ndarray, middle: np.ndarray) -> None:
    other = np.random.default_rng(9).uniform(0, 1, scene.shape).astype(np.float32)
    assert aligned(scene, other, middle)[0] is other


def test_a_jump_is_reported_and_left(scene: np.ndarray, middle: np.ndarray) -> None:
    far = np.roll(scene, 20, axis=1)
    back, seen = aligned(scene, far, middle)
    assert back is far
    assert abs(seen[1]) > MAX_SHIFT
