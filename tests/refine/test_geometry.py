"""Where an edit is worked on, and that it comes back to its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from editcritic.refine.geometry import composite, plan_frame


def marked(size: tuple[int, int], left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A box mask."""
    mask = np.zeros(size, np.float32)
    mask[top:bottom, left:right] = 1
    return mask


@given(st.integers(16, 200), st.integers(16, 200), st.data())
def test_a_frame_holds_the_mask_lies_in_the_picture_and_fits_the_engine(
    height: int, width: int, data: st.DataObject
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    frame = plan_frame(marked((height, width), left, top, right, bottom), 128, 8, 1.9)
    assert 0 <= frame.left <= left < right <= frame.right <= width
    assert 0 <= frame.top <= top < bottom <= frame.bottom <= height
    assert frame.width % 8 == 0
    assert frame.height % 8 == 0
    assert frame.width * frame.height <= 2 * 128 * 128


def test_the_context_is_as_wide_as_asked_and_square() -> None:
    frame = plan_frame(marked((600, 800), 300, 200, 400, 280), 128, 8, 2.0)
    assert (frame.left, frame.top, frame.right, frame.bottom) == (250, 140, 450, 340)
    assert (frame.width, frame.height) == (128, 128)


def test_a_twenty_megapixel_photograph_is_worked_on_at_native_size() -> None:
    frame = plan_frame(marked((4000, 5000), 1000, 1000, 3000, 2500), 128, 8, 1.9)
    assert (frame.width, frame.height) == (128, 128)
    assert frame.right - frame.left == pytest.approx(3800, abs=1)


def test_a_strip_keeps_its_proportions() -> None:
    frame = plan_frame(marked((64, 1000), 0, 0, 1000, 64), 128, 8, 1.9)
    assert frame.width / frame.height == pytest.approx(1000 / 64, rel=0.2)


def test_scaling_there_and_back_shifts_nothing() -> None:
    rng = np.random.default_rng(2)
    smooth = gaussian_filter(rng.uniform(0, 255, (240, 240, 3)), (6, 6, 0))
    source = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    frame = plan_frame(marked((240, 240), 70, 70, 170, 170), 128, 8, 2.0)
    assert frame.right - frame.left != frame.width, "nothing was scaled"
    back = frame.back(np.asarray(frame.cut(source, np.zeros((240, 240), np.float32)), np.float32) / 255) * 255
    crop = source[frame.place].astype(np.float32)
    for axis in (0, 1):
        moved = np.roll(back, 1, axis)
        assert np.abs(back - crop).mean() < 0.2 * np.abs(moved - crop).mean()


def test_composite_blends_by_weight_and_leaves_the_rest_alone() -> None:
    source = np.full((40, 40, 3), 100, np.uint8)
    frame = plan_frame(marked((40, 40), 10, 10, 20, 20), 32, 8, 1.5)
    blend = np.zeros((40, 40), np.float32)
    blend[12, 12], blend[12, 13] = 1.0, 0.5
    result = composite(source, np.ones((frame.height, frame.width, 3), np.float32), blend, frame)
    assert result[12, 12].tolist() == [255] * 3
    assert result[12, 13].tolist() == [178] * 3
    result[12, 12] = result[12, 13] = 100
    np.testing.assert_array_equal(result, source)


def test_a_centred_frame_keeps_the_mask_in_the_middle_of_a_square() -> None:
    mask = marked((100, 200), 160, 60, 200, 100)
    frame = plan_frame(mask, 128, 8, 2.0, centred=True)
    assert (frame.left, frame.top, frame.right, frame.bottom) == (140, 40, 220, 120)
    assert frame.region == (140, 40, 200, 100)
    work = frame.cut_mask(mask, 8)
    rows, columns = np.nonzero(work)
    assert (work.shape, rows.mean(), columns.mean()) == ((128, 128), 63.5, 63.5)


def test_what_is_to_be_replaced_does_not_come_back_in_the_mirror() -> None:
    source = np.full((100, 200, 3), 90, np.uint8)
    mask = marked((100, 200), 160, 60, 200, 100)
    source[mask > 0] = 250
    frame = plan_frame(mask, 80, 8, 2.0, centred=True)
    crop = np.asarray(frame.cut(source, mask))
    assert np.all(crop[frame.cut_mask(mask, 8) == 0] == 90)
    assert np.all(crop[20:60, 20:60] == 250)


def test_a_centred_frame_comes_back_to_its_place() -> None:
    rng = np.random.default_rng(4)
    source = rng.integers(0, 255, (100, 200, 3), dtype=np.uint8)
    mask = marked((100, 200), 0, 0, 40, 40)
    frame = plan_frame(mask, 80, 8, 2.0, centred=True)
    back = frame.back(np.asarray(frame.cut(source, mask), np.float32) / 255)
    np.testing.assert_array_equal(np.rint(back * 255), source[frame.place])


def test_with_nothing_known_the_frame_is_the_picture() -> None:
    frame = plan_frame(np.ones((100, 200), np.float32), 128, 8, 1.9, centred=True)
    assert frame.region == (0, 0, 200, 100)
    assert not any(sum(frame.margins, ()))
