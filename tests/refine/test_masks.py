"""What is marked, how it is blended, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from editcritic.refine.masks import bounds, check_mask, check_source, feathered, widened
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError


def box(size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A hard mask."""
    mask = np.zeros(size, np.float32)
    mask[rows, columns] = 1
    return mask


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.float32, np.float64])
def test_masks_of_any_usual_type_mean_the_same(kind: Any) -> None:
    hard = box((32, 40), slice(4, 9), slice(6, 20))
    given_mask = (hard * (255 if kind is np.uint8 else 1)).astype(kind)
    np.testing.assert_array_equal(check_mask(given_mask, (32, 40)), hard)


def test_dust_of_painting_programs_is_no_mask() -> None:
    dusty = box((32, 40), slice(4, 9), slice(6, 20)) + np.float32(0.01)
    cleaned = check_mask(dusty.clip(0, 1), (32, 40))
    assert cleaned[20, 30] == 0


@pytest.mark.parametrize(
    ("mask", "reason", "message"),
    [
        (np.zeros((32, 40)), pb.ERROR_REASON_MASK_EMPTY, "empty"),
        (np.full((32, 40), 0.005), pb.ERROR_REASON_MASK_EMPTY, "empty"),
        (np.ones((30, 40)), pb.ERROR_REASON_MASK_SIZE, "40x30"),
        (np.full((32, 40), 7.0), None, "expected 0 to 1"),
        (np.full((32, 40), np.nan), None, "expected 0 to 1"),
        (np.ones((32, 40, 3)), None, "expected bool"),
        (np.full((32, 40), "x"), None, "expected bool"),
        ([[1, 0]], None, "list"),
    ],
)
def test_what_is_no_mask_is_refused_with_what_was_expected(
    mask: Any, reason: int | None, message: str
) -> None:
    with pytest.raises(ImageError, match=message) as told:
        check_mask(mask, (32, 40))
    assert told.value.field == "mask"
    if reason is not None:
        assert told.value.reason == reason


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((32, 40), np.uint8), "expected a uint8 array"),
        (np.zeros((32, 40, 4), np.uint8), "expected a uint8 array"),
        (np.zeros((32, 40, 3), np.float32), "float32"),
        (np.zeros((15, 400, 3), np.uint8), "400x15"),
        (np.broadcast_to(np.uint8(0), (20_000, 6_000, 3)), "120 megapixels"),
        ("photo.png", "str"),
    ],
)
def test_what_is_no_picture_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        check_source(source)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(1, 13), st.integers(1, 19))
def test_a_feathered_mask_replaces_all_that_was_marked(
    row: int, column: int, height: int, width: int
) -> None:
    mask = box((64, 80), slice(row, row + height), slice(column, column + width))
    blend = feathered(mask)
    assert np.all(blend[mask == 1] == 1)
    assert np.all((blend >= 0) & (blend <= 1))


def test_a_feather_is_narrow_and_outside() -> None:
    mask = box((300, 300), slice(100, 200), slice(100, 200))
    left, top, right, bottom = bounds(feathered(mask))
    assert left == top
    assert right == bottom
    assert 96 <= left < 100
    assert 200 < right <= 204


def test_a_soft_mask_is_a_blend_mask_as_it_is() -> None:
    soft = np.linspace(0, 1, 80, dtype=np.float32)[None].repeat(64, axis=0)
    assert feathered(soft) is soft


def test_thin_lines_keep_every_cell_that_they_touch() -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[np.arange(64), np.arange(64)] = 1
    cells = widened(mask, 8)
    np.testing.assert_array_equal(cells[4::8, 4::8], np.eye(8))
    assert np.all(cells[mask == 1] == 1)
