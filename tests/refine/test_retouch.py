"""Repairs without diffusion: each mends the fault that it is for, and touches nothing beyond the blend mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data

from editcritic.refine.masks import feathered
from editcritic.refine.retouch import blended_border, matched_detail, recoloured, recomposited

Pixels = np.ndarray
MASK = np.zeros((160, 200), np.float32)
MASK[50:110, 60:140] = 1
BLEND = feathered(MASK)
INSIDE, FAR = MASK > 0.5, BLEND == 0


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return np.asarray(data.coffee()[20:180, 400:600], np.uint8)


def spoiled(photo: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """The photograph with its inside changed: the perfect answer is the photograph."""
    changed = np.clip(change(photo.astype(np.float32)), 0, 255)
    return np.round(photo + BLEND[..., None] * (changed - photo)).astype(np.uint8)


def error(picture: Pixels, photo: Pixels) -> float:
    return float(np.abs(picture[INSIDE].astype(float) - photo[INSIDE]).mean())


def detail(picture: Pixels) -> float:
    fine = picture.astype(float) - gaussian_filter(picture.astype(float), (1.5, 1.5, 0))
    return float(np.median(np.abs(fine[INSIDE])))


def test_recomposite_takes_back_what_changed_outside(photo: Pixels) -> None:
    shifted = np.roll(photo, 2, axis=1)
    result = recomposited(photo, shifted, BLEND)
    np.testing.assert_array_equal(result[FAR], photo[FAR])
    np.testing.assert_array_equal(result[~FAR], shifted[~FAR])


@pytest.mark.parametrize("shift", [(22, 22, 22), (-18, -18, -18), (20, 0, -15)])
def test_recolour_undoes_a_shift_of_tone_or_colour(photo: Pixels, shift: tuple[int, int, int]) -> None:
    edit = spoiled(photo, lambda p: p + np.array(shift))
    result = recoloured(photo, edit, BLEND)
    assert error(result, photo) < 0.45 * error(edit, photo)
    np.testing.assert_array_equal(result[FAR], photo[FAR])


def test_recolour_leaves_a_good_edit_nearly_alone(photo: Pixels) -> None:
    assert error(recoloured(photo, photo, BLEND), photo) < 4


def test_blending_lowers_the_step_at_the_border_and_keeps_the_middle(photo: Pixels) -> None:
    edit = spoiled(photo, lambda p: p + 25)
    result = blended_border(photo, edit, BLEND, 10)
    rim, middle = (slice(52, 56), slice(70, 130)), (slice(76, 84), slice(90, 110))
    step = {
        name: float((picture[rim].astype(float) - photo[rim]).mean())
        for name, picture in (("before", edit), ("after", result))
    }
    assert abs(step["after"]) < 0.6 * abs(step["before"])
    assert np.abs(result[middle].astype(float) - edit[middle]).mean() < 2
    np.testing.assert_array_equal(result[FAR], photo[FAR])


def test_blur_is_brought_to_the_detail_of_the_surroundings(photo: Pixels) -> None:
    edit = spoiled(photo, lambda p: gaussian_filter(p, (2.5, 2.5, 0)))
    result = matched_detail(photo, edit, BLEND, seed=1)
    assert abs(detail(result) - detail(photo)) < 0.6 * abs(detail(edit) - detail(photo))
    np.testing.assert_array_equal(result[FAR], photo[FAR])
    np.testing.assert_array_equal(result, matched_detail(photo, edit, BLEND, seed=1))


def test_oversharpening_is_toned_down(photo: Pixels) -> None:
    edit = spoiled(photo, lambda p: p + 2.5 * (p - gaussian_filter(p, (1.5, 1.5, 0))))
    result = matched_detail(photo, edit, BLEND, seed=1)
    assert detail(result) < 0.8 * detail(edit)


@pytest.mark.parametrize(
    "repair",
    [recoloured, lambda s, p, b: blended_border(s, p, b, 8), lambda s, p, b: matched_detail(s, p, b, 0)],
)
def test_with_no_surroundings_nothing_can_be_matched(photo: Pixels, repair: Callable[..., Pixels]) -> None:
    np.testing.assert_array_equal(repair(photo, photo, np.ones((160, 200), np.float32)), photo)


@pytest.mark.parametrize("width", [0, 3, 9, 14])
def test_the_two_sides_of_a_soft_border_are_found_however_wide_it_is(photo: Pixels, width: int) -> None:
    blend = np.clip(gaussian_filter(MASK, width / 3), 0, 1) if width else MASK
    blend = np.where(blend < 0.02, 0, blend).astype(np.float32)
    edit = np.round(photo + blend[..., None] * np.minimum(20.0, 255.0 - photo)).astype(np.uint8)
    result = recoloured(photo, edit, blend)
    deep = blend > 0.99
    assert (
        np.abs(result[deep].astype(float) - photo[deep]).mean()
        < 0.6 * np.abs(edit[deep].astype(float) - photo[deep]).mean()
    )
