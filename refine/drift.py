"""What a repair must not win by: critics like a picture that is more colourful, harder or brighter, people need not.

Human-preference models reward guidance that visibly spoils a picture (arXiv 2602.22570). So four plain figures of the
inside are held against those of its surroundings, which no critic can be flattered about.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.masks import bounds

__all__ = ["find_drift"]

Pixels = NDArray[np.uint8]

_WORSE = 0.35  # natural logarithm: by which the ratio to the surroundings may grow
_FAR = 0.7  # up to which a ratio (a half to twice) is nobody's business
_LEAST = {"brightness": 8.0, "contrast": 4.0, "saturation": 12.0, "sharpness": 2.0}
"""Levels under which a figure is noise and ratios say nothing."""
_EITHER_WAY = frozenset(
    {"brightness"}
)  # of the others only more flatters: critics see blur and grey by themselves


def find_drift(source: Pixels, before: Pixels, after: Pixels, mask: NDArray[Any]) -> str:
    """Which figure of the inside a repair drove away from the surroundings, in a sentence; empty when none.

    source, before, after: (H, W, 3) uint8. mask: (H, W), above .5 inside.
    """
    inside = np.asarray(mask) > 0.5
    place = _surroundings(inside)
    within, around = inside[place], ~inside[place]
    if not within.any() or not around.any():
        return ""
    outer = _figures(source[place], around)
    old, new = (_figures(each[place], within) for each in (before, after))
    for name, least in _LEAST.items():
        ratios = [np.log((figures[name] + least) / (outer[name] + least)) for figures in (old, new)]
        if name in _EITHER_WAY:
            ratios = [abs(ratio) for ratio in ratios]
        if ratios[1] > max(_FAR, ratios[0] + _WORSE):
            return f"{name} went from {old[name]:.0f} to {new[name]:.0f} inside, away from {outer[name]:.0f} around it"
    return ""


def _surroundings(inside: NDArray[np.bool_]) -> tuple[slice, slice]:
    left, top, right, bottom = bounds(inside.astype(np.float32))
    margin = max(16, max(right - left, bottom - top) // 2)
    return slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)


def _figures(picture: Pixels, where: NDArray[np.bool_]) -> dict[str, float]:
    """Levels of 255: mean brightness, its deviation, mean saturation (largest less smallest channel), and the mean
    step between neighbours."""
    levels = picture.astype(np.float32)
    grey = levels.mean(axis=-1)
    steps = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(
        np.diff(grey, axis=1, append=grey[:, -1:])
    )
    return {
        "brightness": float(grey[where].mean()),
        "contrast": float(grey[where].std()),
        "saturation": float(np.ptp(levels, axis=-1)[where].mean()),
        "sharpness": float(steps[where].mean()),
    }
