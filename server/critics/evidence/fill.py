"""Fills that are none: flat, black, or the source itself."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.change import largest_change
from editcritic.server.critics.evidence.calibration import FILL_SHARE, UNCHANGED_SHARE
from editcritic.server.critics.finding import Finding, figure
from editcritic.server.critics.views import Planes, Views
from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "beyond_usual",
    "black_map",
    "flat_map",
    "happened_share",
    "judge_fill",
    "judge_unchanged",
    "unchanged_map",
    "window_shares",
]

Mask = NDArray[np.bool_]

FLAT_LEVELS = 0.35
"""Standard deviation in a window below which it is one colour; rounding a slope of light leaves more."""
FLAT_WINDOW_PX = 7
BLACK_LEVEL = 10
"""Largest channel of a black pixel."""
SAME_LEVELS = 2
"""A pixel that differs from the source by no more was not edited."""


def flat_map(planes: Planes) -> Mask:
    """(h, w) bool: pixels in whose window every channel keeps one value."""
    rgb = planes.rgb.astype(np.float32)
    size = (FLAT_WINDOW_PX, FLAT_WINDOW_PX)
    mean = cv2.boxFilter(rgb, -1, size)
    variance = cv2.boxFilter(rgb * rgb, -1, size) - mean * mean
    return np.asarray(variance.max(axis=2) < FLAT_LEVELS**2)


def black_map(planes: Planes) -> Mask:
    """(h, w) bool: pixels without any light."""
    return np.asarray(planes.rgb.max(axis=2) <= BLACK_LEVEL)


def unchanged_map(source: Planes, candidate: Planes) -> Mask:
    """(h, w) bool: pixels that still are the source's."""
    return np.asarray(largest_change(source.rgb, candidate.rgb) <= SAME_LEVELS)


def window_shares(found: Mask, outside: Mask, windows: list[tuple[slice, slice]]) -> NDArray[np.float64]:
    """Share of `found` in the outside part of each window."""
    shares = [found[place][outside[place]].mean() for place in windows if outside[place].any()]
    return np.array(shares, np.float64)


def judge_fill(
    kind: pb.DefectKind.ValueType, name: str, found: Mask, views: Views, usual: NDArray[np.float64]
) -> Finding:
    """Flat or black: the share inside, beyond the largest that a window of the photograph has."""
    excess, measured = beyond_usual(name, float(found[views.core].mean()), usual)
    return Finding(kind, excess / FILL_SHARE, [measured], (found & views.inside).astype(np.float32))


def beyond_usual(name: str, share: float, usual: NDArray[np.float64]) -> tuple[float, pb.Measurement]:
    """By how much a share exceeds the largest that a window of the photograph has, at least 0; and the figure."""
    reference = float(usual.max(initial=0.0))
    spread = max(0.1, float(usual.std()) if usual.size else 0.1)
    return max(0.0, share - reference), figure(name, share, "fraction", reference, spread)


def judge_unchanged(found: Mask, views: Views) -> Finding:
    """The share of the core that still is the source."""
    share = float(found[views.core].mean())
    heat = (found & views.inside).astype(np.float32)
    evidence = [figure("unchanged_share", share, "fraction")]
    return Finding(pb.DEFECT_KIND_UNCHANGED, share / UNCHANGED_SHARE, evidence, heat)


def happened_share(unchanged_share: float) -> float:
    """How far an edit happened, in [0, 1], from the share of the inside that still is the source.

    A mask is drawn with room to spare: a margin that stays as it was is no failure.
    """
    return min(1.0, (1.0 - unchanged_share) / (1.0 - UNCHANGED_SHARE))
