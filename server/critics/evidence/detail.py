"""Sharpness and grain: does the inside carry the fine detail that the photograph gives such content?

Each tile is described by its energy in three octaves. What the finest octaves should hold is predicted from
the coarsest, the brightness and the place by the most similar tiles outside; the residual, in nepers (half
the natural logarithm of an energy ratio), says how much sharper, blurrier or noisier a tile is than that.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from editcritic.server.critics.evidence import calibration
from editcritic.server.critics.finding import Finding, figure, robust
from editcritic.server.critics.views import Views
from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "DetailReference",
    "DetailStats",
    "Tiles",
    "cut_tiles",
    "detail_reference",
    "detail_stats",
    "judge_detail",
]

Plane = NDArray[np.float32]
Array = NDArray[np.float64]

NEIGHBOURS = 12
QUANTISATION_ENERGY = 0.12
"""Levels squared: what rounding to 8 bits leaves in the finest octave."""
SPREAD_FLOOR = 0.08
MAX_TILES = 900
PLACE_WEIGHT = 1 / 150
"""Per pixel: far away, focus and light may differ."""
_MARGIN_PX = 3


@dataclass(frozen=True, eq=False)
class Tiles:
    """Features of tiles.

    Attributes:
        places: (N, 2) row and column of each tile's middle.
        octaves: (N, 3) log energy, the finest first.
        luma: (N,) mean, in levels.
        side: side of a tile in pixels.
    """

    places: NDArray[np.intp]
    octaves: Array
    luma: Array
    side: int

    def part(self, chosen: NDArray[np.bool_]) -> Tiles:
        """Some of the tiles."""
        return Tiles(self.places[chosen], self.octaves[chosen], self.luma[chosen], self.side)


@dataclass(frozen=True)
class DetailStats:
    """Residuals of a region, in nepers.

    Attributes:
        slope: mean residual of fine against middle energy, weighted by texture: sharper or blurrier.
        fine: mean residual of the fine energy.
        grain: residual of fine against middle energy where it is calm: texture has both, grain is fine alone.
    """

    slope: float = 0.0
    fine: float = 0.0
    grain: float = 0.0


@dataclass(frozen=True, eq=False)
class DetailReference:
    """Tiles outside, and the statistics of mask-sized windows of them."""

    tiles: Tiles
    windows: tuple[DetailStats, ...]

    def usual(self, name: str) -> tuple[float, float]:
        """Median and spread of a statistic over the windows."""
        return robust(np.array([getattr(window, name) for window in self.windows]), SPREAD_FLOOR)


def cut_tiles(luma: Plane, region: NDArray[np.bool_], side: int) -> Tiles:
    """Tiles that lie in the region, without what the filters' reach carries over its border."""
    valid = cv2.erode(region.astype(np.uint8), np.ones((2 * _MARGIN_PX + 1,) * 2, np.uint8), borderValue=1)
    weight = (valid if valid.any() else region.astype(np.uint8)).astype(np.float32)
    box = (side, side)
    share = cv2.boxFilter(weight, -1, box, borderType=cv2.BORDER_CONSTANT)
    stride = max(2, side // 2, int(np.sqrt(region.sum() / MAX_TILES)))
    rows, columns = np.mgrid[side // 2 : luma.shape[0] : stride, side // 2 : luma.shape[1] : stride]
    level = min(0.6, 0.7 * float(share[rows, columns].max(initial=0.0)))
    chosen = share[rows, columns] > max(level, 1e-3)
    rows, columns = rows[chosen], columns[chosen]

    def mean(plane: Plane) -> Array:
        filtered = cv2.boxFilter(plane * weight, -1, box, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(np.maximum(filtered[rows, columns], 0) / share[rows, columns], np.float64)

    octaves = np.stack([np.log(mean(band) + QUANTISATION_ENERGY) for band in _octaves(luma)], axis=1)
    return Tiles(np.stack([rows, columns], axis=1), octaves, mean(luma), side)


def detail_reference(views: Views, luma: Plane, windows: list[tuple[slice, slice]]) -> DetailReference | None:
    """Learn what the photograph gives its content; None when too few tiles lie outside."""
    if not views.outside.any():
        return None
    side = int(np.clip(np.sqrt(views.inside.sum()) / 5, 6, 16))
    tiles = cut_tiles(luma, views.outside, side)
    if len(tiles.luma) < 3 * NEIGHBOURS:
        return None
    apart = max(3 * side, int(0.5 * np.sqrt(views.inside.sum())))
    residuals = _residuals(tiles, tiles, cdist(tiles.places, tiles.places, "chebyshev") < apart)
    return DetailReference(tiles, tuple(_window_stats(tiles, residuals, windows)))


def detail_stats(reference: DetailReference, tiles: Tiles) -> tuple[DetailStats, Array]:
    """Statistics of the inside's tiles, and their residuals (N, 2): fine energy, and fine against middle."""
    residuals = _residuals(tiles, reference.tiles, None)
    return _summarise(tiles, residuals), residuals


def judge_detail(reference: DetailReference, luma: Plane, views: Views) -> list[Finding]:
    """Sharpness and grain."""
    tiles = cut_tiles(luma, views.inside, reference.tiles.side)
    if len(tiles.luma) == 0:
        return []
    stats, residuals = detail_stats(reference, tiles)
    return [
        _sharpness(reference, stats, residuals, tiles, views),
        _grain(reference, stats, residuals, tiles, views),
    ]


def _sharpness(
    reference: DetailReference, stats: DetailStats, residuals: Array, tiles: Tiles, views: Views
) -> Finding:
    blur = -stats.slope / calibration.BLUR_NEPERS
    sharp = stats.fine / calibration.SHARPEN_NEPERS
    blurred = blur >= sharp
    value, name = (-stats.slope, "slope") if blurred else (stats.fine, "fine")
    median, spread = reference.usual(name)
    measured = figure(
        "blur" if blurred else "sharpening", value, "nepers", -median if blurred else median, spread
    )
    local = -residuals[:, 1] if blurred else residuals[:, 0]
    place = "(the inside is too blurry)" if blurred else "(the inside is too sharp)"
    heat = _spread_out(local, tiles, views)
    return Finding(pb.DEFECT_KIND_SHARPNESS_MISMATCH, max(blur, sharp, 0.0), [measured], heat, place)


def _grain(
    reference: DetailReference, stats: DetailStats, residuals: Array, tiles: Tiles, views: Views
) -> Finding:
    measured = figure("grain", stats.grain, "nepers", *reference.usual("grain"))
    heat = _spread_out(residuals[:, 1], tiles, views)
    return Finding(
        pb.DEFECT_KIND_NOISE_MISMATCH, max(stats.grain, 0.0) / calibration.GRAIN_NEPERS, [measured], heat
    )


def _spread_out(values: Array, tiles: Tiles, views: Views) -> Plane:
    """Tile values as a smooth map of the inside."""
    total, weight = np.zeros(views.inside.shape, np.float32), np.zeros(views.inside.shape, np.float32)
    rows, columns = tiles.places[:, 0], tiles.places[:, 1]
    total[rows, columns], weight[rows, columns] = np.maximum(values, 0), 1.0
    summed, near = (np.asarray(cv2.GaussianBlur(plane, (0, 0), tiles.side / 2)) for plane in (total, weight))
    smooth = np.where(views.inside, summed / np.maximum(near, 1e-6), 0)
    return (smooth / max(float(smooth.max()), 1e-6)).astype(np.float32)


def _octaves(luma: Plane) -> list[Plane]:
    blurred = [luma, *(cv2.GaussianBlur(luma, (0, 0), sigma) for sigma in (0.8, 1.6, 3.2))]
    return [np.square(upper - lower) for upper, lower in itertools.pairwise(blurred)]


def _residuals(tiles: Tiles, known: Tiles, barred: NDArray[np.bool_] | None) -> Array:
    far = cdist(_address(tiles), _address(known), "sqeuclidean")
    if barred is not None:
        far += 1e6 * barred
    count = min(NEIGHBOURS, far.shape[1])
    nearest = np.argpartition(far, count - 1, axis=1)[:, :count]
    usual = known.octaves[nearest].mean(axis=1)
    fine = tiles.octaves[:, 0] - usual[:, 0]
    slope = fine - (tiles.octaves[:, 1] - usual[:, 1])
    return np.stack([fine, slope], axis=1) / 2


def _address(tiles: Tiles) -> Array:
    return np.column_stack([tiles.octaves[:, 2], tiles.luma / 40.0, tiles.places * PLACE_WEIGHT])


def _summarise(tiles: Tiles, residuals: Array) -> DetailStats:
    if len(residuals) == 0:
        return DetailStats()
    coarse = tiles.octaves[:, 2]
    textured = np.clip((coarse - np.log(2.0)) / 3.0, 0.02, 1.0)
    slope = float((textured * residuals[:, 1]).sum() / textured.sum())
    calm = coarse <= np.median(coarse)
    return DetailStats(slope, float(residuals[:, 0].mean()), float(np.quantile(residuals[calm, 1], 0.35)))


def _window_stats(tiles: Tiles, residuals: Array, windows: list[tuple[slice, slice]]) -> list[DetailStats]:
    found = []
    row, column = tiles.places[:, 0], tiles.places[:, 1]
    for rows, columns in windows:
        member = (row >= rows.start) & (row < rows.stop) & (column >= columns.start) & (column < columns.stop)
        if member.sum() >= 4:
            found.append(_summarise(tiles.part(member), residuals[member]))
    return found
