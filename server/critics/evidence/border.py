"""Profiles across the mask's border, and across undisturbed copies of the same border elsewhere in the photo.

The border is cut into short segments. Around each, the pixels are binned by their signed distance to it; the
mean of each bin is the segment's profile. Moving a segment's pixels to other places outside the mask, with
the shape kept, gives the profiles that the same photograph shows where nobody edited.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from editcritic.server.critics.views import Views

__all__ = [
    "HALF_BAND_PX",
    "Border",
    "find_border",
    "mean_profile",
    "profiles",
    "reference_profiles",
    "side_name",
]

HALF_BAND_PX = 18
"""Bins on each side of the border, one pixel wide."""
SEGMENT_PX = 20
"""Long enough that texture averages out, short enough to say where."""
MAX_SEGMENTS = 64
COPIES = 24
_TRIALS = 160
_MIN_COPIES = 6
_SEED = 20_111


@dataclass(frozen=True, eq=False)
class Border:
    """The border's band and where it was copied to.

    Attributes:
        pixels: (N,) flat indices of the band's pixels.
        keys: (N,) segment * bins + bin of each.
        segments: number of segments, S.
        lengths: (S,) border pixels of each segment.
        centres: (S, 2) x and y of each, from -1 to 1 over the mask's box.
        shifts: (S, COPIES) flat displacement of each copy; 0 where there is none.
        copied: (S,) whether the segment has copies.
        segment_map: (h, w) int32: the segment of each band pixel, -1 elsewhere.
    """

    pixels: NDArray[np.intp]
    keys: NDArray[np.intp]
    segments: int
    lengths: NDArray[np.intp]
    centres: NDArray[np.float64]
    shifts: NDArray[np.intp]
    copied: NDArray[np.bool_]
    segment_map: NDArray[np.int32]


def find_border(views: Views) -> Border | None:
    """Cut the border into segments and find undisturbed places for copies of each; None without a border."""
    chain = _chain(views)
    if len(chain) < SEGMENT_PX // 2:
        return None
    step = max(SEGMENT_PX, int(np.ceil(len(chain) / MAX_SEGMENTS)))
    labels = np.full(views.inside.shape, -1, np.int32)
    labels[chain[:, 0], chain[:, 1]] = np.arange(len(chain)) // step
    count = int((len(chain) - 1) // step) + 1
    rows, columns = distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
    band = (np.abs(views.distance) < HALF_BAND_PX) & (views.inside | views.outside | (views.alpha > 0))
    segment_map = np.where(band, labels[rows, columns], -1).astype(np.int32)
    pixels = np.flatnonzero(segment_map >= 0)
    owner = segment_map.ravel()[pixels]
    bins = np.floor(views.distance.ravel()[pixels]).astype(np.intp) + HALF_BAND_PX
    shifts, copied = _copies(views, pixels, owner, count)
    return Border(
        pixels=pixels,
        keys=owner.astype(np.intp) * (2 * HALF_BAND_PX) + np.clip(bins, 0, 2 * HALF_BAND_PX - 1),
        segments=count,
        lengths=np.bincount(np.arange(len(chain)) // step, minlength=count),
        centres=_centres(views, chain, step, count),
        shifts=shifts,
        copied=copied,
        segment_map=segment_map,
    )


def profiles(border: Border, band: NDArray[np.float32]) -> NDArray[np.float64]:
    """(S, bins) mean of a plane in each bin of each segment, outside first; NaN where a bin is empty.

    Args:
        band: (N,) the plane at the band's pixels.
    """
    return _bin(band, border.keys, border.segments)


def reference_profiles(border: Border, plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """(COPIES, S, bins) the same at the copies; NaN for segments without copies."""
    flat = plane.ravel()
    owner = border.keys // (2 * HALF_BAND_PX)
    out = np.empty((COPIES, border.segments, 2 * HALF_BAND_PX))
    for copy in range(COPIES):
        values = flat[border.pixels + border.shifts[owner, copy]]
        out[copy] = _bin(values, border.keys, border.segments)
    out[:, ~border.copied] = np.nan
    return out


def mean_profile(border: Border, plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """(bins,) mean of the plane in each bin over the whole border; 0 where a bin is empty."""
    bins = border.keys % (2 * HALF_BAND_PX)
    counts = np.bincount(bins, minlength=2 * HALF_BAND_PX)
    sums = np.bincount(bins, weights=plane.ravel()[border.pixels], minlength=2 * HALF_BAND_PX)
    return np.asarray(sums / np.maximum(counts, 1))


def side_name(centre: NDArray[np.float64]) -> str:
    """Which side of the mask a point lies on, from its place in the mask's box."""
    x, y = float(centre[0]), float(centre[1])
    if abs(x) >= abs(y):
        return "left" if x < 0 else "right"
    return "top" if y < 0 else "bottom"


def _bin(values: NDArray[np.floating], keys: NDArray[np.intp], segments: int) -> NDArray[np.float64]:
    size = segments * 2 * HALF_BAND_PX
    counts = np.bincount(keys, minlength=size)
    sums = np.bincount(keys, weights=values, minlength=size)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means.reshape(segments, 2 * HALF_BAND_PX)


def _chain(views: Views) -> NDArray[np.intp]:
    """(P, 2) row and column of the border's pixels in order, without those on the photograph's own edge."""
    contours, _ = cv2.findContours(views.inside.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return np.empty((0, 2), np.intp)
    height, width = views.inside.shape
    points = np.concatenate([contour[:, 0, ::-1] for contour in contours]).astype(np.intp)
    inner = (points > 0).all(axis=1) & (points[:, 0] < height - 1) & (points[:, 1] < width - 1)
    return np.asarray(points[inner], np.intp)


def _centres(views: Views, chain: NDArray[np.intp], step: int, count: int) -> NDArray[np.float64]:
    rows, columns = np.nonzero(views.inside)
    low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
    middle, half = (low + high) / 2, np.maximum(high - low, 1) / 2
    owner = np.arange(len(chain)) // step
    sums = np.stack([np.bincount(owner, chain[:, axis], count) for axis in (1, 0)], axis=1)
    means = sums / np.maximum(np.bincount(owner, minlength=count), 1)[:, None]
    return np.asarray((means - middle) / half)


def _copies(
    views: Views, pixels: NDArray[np.intp], owner: NDArray[np.int32], count: int
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """For each segment, displacements that carry its whole band to places outside the mask."""
    height, width = views.inside.shape
    rng = np.random.default_rng(_SEED)
    free = views.outside.ravel()
    shifts, copied = np.zeros((count, COPIES), np.intp), np.zeros(count, bool)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(count + 1))
    for segment in range(count):
        own = pixels[order[starts[segment] : starts[segment + 1]]]
        if own.size == 0:
            continue
        found = _places(own, free, (height, width), rng)
        if found.size >= _MIN_COPIES:
            shifts[segment] = np.resize(found, COPIES)
            copied[segment] = True
    return shifts, copied


def _places(
    own: NDArray[np.intp], free: NDArray[np.bool_], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.intp]:
    height, width = shape
    rows, columns = own // width, own % width
    top, left = int(rows.min()), int(columns.min())
    down = rng.integers(-top, max(height - int(rows.max()), -top + 1), _TRIALS)
    right = rng.integers(-left, max(width - int(columns.max()), -left + 1), _TRIALS)
    moves = down * width + right
    # Every fourth pixel tells whether a place is free; a few stray edited pixels do not spoil a reference.
    share = free[own[::4][None, :] + moves[:, None]].mean(axis=1)
    return np.asarray(moves[share > 0.97][:COPIES])
