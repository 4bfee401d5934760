"""Where a thing stands in a hole."""

from __future__ import annotations

import numpy as np
import pytest

from editcritic.refine.tabletop.seat import find_seat, seat_coordinates


def hole(rows: slice, columns: slice) -> np.ndarray:
    cells = np.zeros((16, 16), bool)
    cells[rows, columns] = True
    return cells


@pytest.mark.parametrize(
    ("cells", "seat"),
    [
        (hole(slice(4, 11), slice(5, 12)), (8.5, 7.5, 3.5)),
        (hole(slice(4, 12), slice(4, 12)), (8.0, 8.0, 4.0)),
        (hole(slice(6, 11), slice(2, 13)), (7.5, 8.5, 2.5)),
        (hole(slice(3, 4), slice(9, 10)), (9.5, 3.5, 0.5)),
        (hole(slice(0, 16), slice(0, 16)), (8.0, 8.0, 8.0)),
    ],
)
def test_a_thing_stands_in_the_middle_and_touches_the_nearest_wall(
    cells: np.ndarray, seat: tuple[float, float, float]
) -> None:
    x, y, radius = find_seat(cells)
    assert (x, y) == pytest.approx(seat[:2], abs=0.01)
    # The disc is centred on a cell, so an even hole leaves half a cell free.
    assert seat[2] - 0.5 <= radius <= seat[2]


def test_of_two_rooms_the_larger_is_taken() -> None:
    cells = hole(slice(1, 4), slice(1, 4)) | hole(slice(7, 14), slice(7, 14))
    assert find_seat(cells) == pytest.approx((10.5, 10.5, 3.5))


def test_a_seat_lies_inside_a_bent_hole() -> None:
    bent = hole(slice(2, 14), slice(2, 6)) | hole(slice(10, 14), slice(2, 14))
    x, y, _ = find_seat(bent)
    assert bent[int(y), int(x)]


def test_coordinates_are_zero_at_the_seat_and_one_at_the_wall() -> None:
    seen = seat_coordinates(hole(slice(4, 11), slice(5, 12)))
    np.testing.assert_allclose(seen[:, 7, 8], 0)
    np.testing.assert_allclose(seen[:, 7, 5:12][0] * 3.5, [-3, -2, -1, 0, 1, 2, 3], atol=1e-5)
    assert np.abs(seat_coordinates(hole(slice(3, 4), slice(3, 4)))).max() == 3.0
    assert not seat_coordinates(np.zeros((4, 4), bool)).any()
