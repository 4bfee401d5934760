"""Where a solid stands inside a hole: in the roomiest place, near the middle.

The world draws by this rule and the denoiser is told its outcome as coordinates, so that it need not find out where to
paint and can learn what.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_seat", "seat_coordinates"]

_REACH = 3.0  # coordinates are cut off there: beyond, only the direction matters


def find_seat(hole: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Centre x, y and radius, in cells, of a disc that fits into a hole (h, w) with at least one cell.

    Of the places with nearly the most room it is the middle of those round the one that lies nearest to the hole's own
    middle. The frame's border counts as a wall. The radius may fall half a cell short.
    """
    from scipy.ndimage import distance_transform_edt

    room = distance_transform_edt(np.pad(hole, 1))[1:-1, 1:-1] - 0.5
    widest = float(room.max())
    best = np.argwhere(room >= 0.9 * widest)
    middle = np.argwhere(hole).mean(axis=0)
    anchor = best[np.square(best - middle).sum(axis=1).argmin()]
    near = best[np.square(best - anchor).sum(axis=1) <= (0.5 * widest) ** 2]
    row, column = near.mean(axis=0) + 0.5
    return float(column), float(row), widest


def seat_coordinates(hole: NDArray[np.bool_]) -> NDArray[np.floating[Any]]:
    """Where every cell of (h, w) lies as seen from the seat: (2, h, w) float32 in [-3, 3], radii, x right, y down."""
    if not hole.any():
        return np.zeros((2, *hole.shape), np.float32)
    x, y, radius = find_seat(hole)
    rows, columns = np.indices(hole.shape) + 0.5
    seen = np.stack([columns - x, rows - y]) / radius
    return np.clip(seen, -_REACH, _REACH).astype(np.float32)
