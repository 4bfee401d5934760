"""Where something stands, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["place_words"]

_THIRD = 1 / 3
_MOST = 0.6
_EDGE_SHARE = 0.6
_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")


def place_words(heat: NDArray[np.floating], inside: NDArray[np.bool_], near_border: NDArray[np.bool_]) -> str:
    """Words for the place of a fault: "upper left edge", "in the middle", "all over the inside".

    Args:
        heat: (h, w), 0 or more; how strongly the fault shows.
        inside: (h, w) bool; the masked region, whose box is divided into thirds.
        near_border: (h, w) bool; the pixels close to the mask's border, on both sides.

    Returns:
        The words, or an empty string for an empty map.
    """
    total = float(heat.sum())
    if total <= 0 or not inside.any():
        return ""
    strong = heat >= 0.5 * float(heat.max())
    edge = float(heat[near_border].sum()) / total > _EDGE_SHARE
    if float(strong[inside].mean()) > _MOST:
        return "all over the inside"
    where = _third(heat, inside)
    if edge:
        return f"on the {where} edge" if where else "along the border"
    return f"in the {where} part" if where else "in the middle"


def _third(heat: NDArray[np.floating], inside: NDArray[np.bool_]) -> str:
    """Which ninth of the inside's box holds the centre of the heat; empty for the middle one."""
    words = []
    for axis, names in ((0, _ROWS), (1, _COLUMNS)):
        profile = heat.sum(axis=1 - axis)
        centre = float((profile * np.arange(profile.size)).sum() / profile.sum())
        used = np.flatnonzero(inside.any(axis=1 - axis))
        share = (centre - used[0]) / max(float(np.ptp(used)), 1.0)
        words.append(names[0] if share < _THIRD else names[2] if share > 1 - _THIRD else names[1])
    return " ".join(word for word in words if word)
