"""What a repair must not win by: more colour, contrast, sharpness or light than its surroundings have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data

from editcritic.refine.drift import find_drift

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return np.ascontiguousarray(data.astronaut()[60:316, 80:336])


@pytest.fixture(scope="module")
def mask() -> NDArray[np.float32]:
    inside = np.zeros((256, 256), np.float32)
    inside[90:170, 80:180] = 1
    return inside


def changed(photo: Pixels, mask: NDArray[np.float32], inside: NDArray[np.floating]) -> Pixels:  # type: ignore[type-arg]
    moved = np.clip(np.rint(inside), 0, 255).astype(np.uint8)
    return np.where(mask[..., None] > 0.5, moved, photo)


def test_a_repair_that_stays_with_its_surroundings_has_no_drift(
    photo: Pixels, mask: NDArray[np.float32]
) -> None:
    assert find_drift(photo, photo, photo, mask) == ""
    warmer = photo + np.array([9.0, 3.0, -6.0])
    assert find_drift(photo, photo, changed(photo, mask, warmer), mask) == ""


@pytest.mark.parametrize(
    ("figure", "factor"), [("saturation", 6.0), ("contrast", 5.0), ("brightness", 0.1), ("sharpness", 9.0)]
)
def test_what_leaves_them_is_named(
    photo: Pixels, mask: NDArray[np.float32], figure: str, factor: float
) -> None:
    if figure == "contrast":  # a picture of strong contrast leaves no room for more
        photo = np.rint(128 + 0.4 * (photo.astype(float) - 128)).astype(np.uint8)
    levels = photo.astype(float)
    grey = levels.mean(axis=-1, keepdims=True)
    hacked = {
        "saturation": grey + factor * (levels - grey),
        "contrast": 128 + factor * (levels - levels.mean()),
        "brightness": factor * levels,
        "sharpness": levels + factor * (levels - gaussian_filter(levels, (2, 2, 0))),
    }[figure]
    calm = changed(photo, mask, 90 + 0.25 * (gaussian_filter(levels, (2, 2, 0)) - 90))
    told = find_drift(photo, calm, changed(photo, mask, hacked), mask)
    assert "away from" in told
    assert find_drift(photo, photo, calm, mask) == "", "less of everything is for the critics to judge"


def test_what_was_far_away_before_may_stay_there(photo: Pixels, mask: NDArray[np.float32]) -> None:
    dark = changed(photo, mask, 0.1 * photo)
    assert find_drift(photo, photo, dark, mask).startswith("brightness")
    assert find_drift(photo, dark, dark, mask) == ""
    assert find_drift(photo, dark, photo, mask) == ""


def test_a_mask_without_surroundings_says_nothing(photo: Pixels) -> None:
    assert find_drift(photo, photo, 255 - photo, np.ones((256, 256))) == ""
