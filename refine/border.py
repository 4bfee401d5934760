"""What the two sides of a mask's border say about each other: the step from inside to outside, all along it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.crop import Crop
from editcritic.refine.strip import Strip, unrolled

__all__ = ["Steps", "border_steps"]

Array = NDArray[np.floating[Any]]

_REACH = 14  # pixels on either side that are unrolled; soft rims are narrower
_ROWS = 2  # of them that are compared on each side, the nearest first
_OVERLAP = 3  # pixels by which a soft or slanted border may run beyond its own side
_ALONG = 4.0  # pixels of border over which a step is averaged


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps along a border. strip: where they lie. step: (n, c), outside less inside. weight: (n,), pixels that each
    rests on; 0 where one side is missing. place: (n, 2), row and column in the crop."""

    strip: Strip
    step: Array
    weight: Array
    place: Array


def border_steps(crop: Crop, before: Array, now: Array) -> Steps | None:
    """Steps between the source (h, w, c) outside and the edit (h, w, c) inside; None without a border."""
    strip = unrolled(crop.weight, _REACH) if crop.has_both_sides else None
    if strip is None:
        return None
    inner, pixels_in = _nearest(strip, now, crop.inside, 1)
    outer, pixels_out = _nearest(strip, before, crop.outside, -1)
    weight = np.minimum(pixels_in, pixels_out)
    weight = np.where(weight < 3, 0, weight)
    if (weight > 0).sum() < 4:
        return None
    return Steps(strip, outer - inner, weight, strip.middle())


def _nearest(strip: Strip, values: Array, side: NDArray[np.bool_], sign: int) -> tuple[Array, Array]:
    """Mean (n, c) over the rows of one side next to the border that hold anything, and the pixels behind it (n,)."""
    means, pixels = strip.gathered(values, side.astype(np.float32), _ALONG)
    total, behind, used = np.zeros(means.shape[1:]), np.zeros(means.shape[1]), np.zeros(means.shape[1])
    for depth in range(-_OVERLAP, strip.reach + 1):
        row = strip.reach + sign * depth
        share = pixels[row] * ((pixels[row] > 0.5) & (used < _ROWS))
        total, behind, used = total + means[row] * share[:, None], behind + share, used + (share > 0)
    return total / np.maximum(behind, 1e-6)[:, None], behind
