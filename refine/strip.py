"""The border of a mask unrolled into a strip: columns run along the border, rows run across it.

What lies along a border becomes an image of its own, in which neighbours of equal depth are averaged without mixing
depths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Strip", "unrolled"]

Array = NDArray[np.floating[Any]]

_CELL = 2.0  # pixels of border in a column
_GAP = 24  # columns between two separate borders, so that one does not leak into the other


@dataclass(frozen=True, eq=False)
class Strip:
    """Where pixels near the border lie in the strip. Row `reach` holds the pixels just inside, the row before it those
    just outside.

    column: (h, w) float32, place along the border in columns. depth: (h, w) float32, pixels to the border, positive
    inside. near: (h, w) bool, what the strip holds. shape: rows and columns. reach: depth of the last row, pixels.
    """

    column: Array
    depth: Array
    near: NDArray[np.bool_]
    shape: tuple[int, int]
    reach: int

    def gathered(self, values: Array, weight: Array, along: float) -> tuple[Array, Array]:
        """Mean of values (h, w, c) with weight (h, w) in each cell, averaged over `along` pixels of border.

        Returns: (rows, columns, c), and the weight that each mean rests on (rows, columns); a mean of nothing is 0.
        """
        from scipy.ndimage import gaussian_filter1d

        share = weight[self.near]
        planes = [share, *(values[..., band][self.near] * share for band in range(values.shape[-1]))]
        sums = [np.bincount(self._cells, each, self.shape[0] * self.shape[1]) for each in planes]
        grids = [each.reshape(self.shape) for each in sums]
        spread = [gaussian_filter1d(each, along / _CELL, axis=1, mode="constant") for each in grids]
        means = np.stack(spread[1:], axis=-1) / np.maximum(spread[0], 1e-6)[..., None]
        # A Gaussian of this width averages over 2 sqrt(pi) standard deviations.
        return means, spread[0] * 2 * np.pi**0.5 * along / _CELL

    def laid_out(self, rows: Array) -> Array:
        """What (rows, columns, c) says for each pixel, (h, w, c); 0 beyond the strip."""
        from scipy.ndimage import map_coordinates

        where = np.stack([self.depth[self.near] + self.reach - 0.5, self.column[self.near]])
        result = np.zeros((*self.near.shape, rows.shape[-1]), np.float32)
        for band in range(rows.shape[-1]):
            result[self.near, band] = map_coordinates(rows[..., band], where, order=1, mode="nearest")
        return result

    def middle(self) -> Array:
        """Row and column in the crop of each column of the strip, (columns, 2)."""
        places = np.moveaxis(np.indices(self.near.shape, np.float32), 0, -1)
        means, pixels = self.gathered(
            places, (self.near & (np.abs(self.depth) <= 1.5)).astype(np.float32), _CELL
        )
        rows = pixels[self.reach - 2 : self.reach + 2]
        total = (means[self.reach - 2 : self.reach + 2] * rows[..., None]).sum(axis=0)
        return np.asarray(total / np.maximum(rows.sum(axis=0), 1e-6)[:, None])

    @property
    def _cells(self) -> NDArray[np.int64]:
        row = np.floor(self.depth[self.near]).astype(np.int64) + self.reach
        column = np.rint(self.column[self.near]).astype(np.int64)
        return np.asarray(row * self.shape[1] + column, np.int64)


def unrolled(weight: Array, reach: int) -> Strip | None:
    """The strip of `reach` pixels on either side of where a blend mask (h, w) is one half; None without a border."""
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import cKDTree

    lines = [line for line in _contours(weight) if len(line) > 3]
    if not lines:
        return None
    start, columns = 0.0, []
    for line in lines:
        steps = np.hypot(*np.diff(line, axis=0).T) / _CELL
        columns.append(start + np.concatenate([[0.0], np.cumsum(steps)]))
        start = columns[-1][-1] + _GAP
    inside = weight > 0.5
    near = (distance_transform_edt(inside) <= reach) & (distance_transform_edt(~inside) <= reach)
    away, index = cKDTree(np.concatenate(lines)).query(np.argwhere(near))
    column, depth = np.zeros(weight.shape, np.float32), np.zeros(weight.shape, np.float32)
    column[near] = np.concatenate(columns)[index]
    depth[near] = np.where(inside[near], away, -away)
    near &= np.abs(depth) <= reach
    return Strip(column, depth, near, (2 * reach + 1, int(start) + 1), reach)


def _contours(weight: Array) -> list[Array]:
    from skimage import measure

    find: Any = measure.find_contours
    return list(find(np.asarray(weight, np.float64), 0.5))
