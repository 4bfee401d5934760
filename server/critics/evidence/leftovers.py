"""Leftovers: structure of the source that still stands in the mask although the rest has changed.

Fine structure of source and candidate is correlated in place and, as a reference, out of place: two
unrelated pictures correlate equally little at every displacement, a ghost stands out at none.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.evidence.calibration import LEFTOVER_Z
from editcritic.server.critics.finding import Finding, figure, robust
from editcritic.server.critics.views import Planes, Views
from editcritic.v1 import critic_pb2 as pb

__all__ = ["judge_leftover", "structure"]

Plane = NDArray[np.float32]

MIN_CONTRAST = 2.0
"""Levels of fine structure that the source must have inside, or nothing could be left of it."""
MIN_PIXELS = 150
SPREAD_FLOOR = 0.02
_WINDOW_PX = 15
_REACHES_PX = (6, 9, 12, 15)


def structure(planes: Planes) -> Plane:
    """(h, w) fine structure at equal local contrast, clipped, so that no single edge rules."""
    high = cv2.GaussianBlur(planes.luma, (0, 0), 0.7) - cv2.GaussianBlur(planes.luma, (0, 0), 4.0)
    contrast = np.sqrt(np.maximum(cv2.boxFilter(high * high, -1, (21, 21)), 0))
    return np.clip(high / (contrast + MIN_CONTRAST), -2.5, 2.5).astype(np.float32)


def judge_leftover(
    before: Plane, source: Planes, candidate: Planes, unchanged: NDArray[np.bool_], views: Views
) -> Finding:
    """Compare the fine structures where the candidate did change."""
    kernel = np.ones((7, 7), np.uint8)
    changed = np.asarray(cv2.erode((~unchanged).astype(np.uint8), np.ones((3, 3), np.uint8)))
    region = views.core & (cv2.morphologyEx(changed, cv2.MORPH_OPEN, kernel) > 0)
    if region.sum() < MIN_PIXELS or float(source.luma[region].std()) < 2 * MIN_CONTRAST:
        return Finding(pb.DEFECT_KIND_LEFTOVER, 0.0, [figure("source_correlation", 0.0, "correlation")])
    after = structure(candidate)
    in_place = _correlation(before, after, region, (0, 0))
    elsewhere = np.array([_correlation(before, after, region, shift) for shift in _shifts()])
    reference, spread = robust(elsewhere, SPREAD_FLOOR)
    measured = figure("source_correlation", in_place, "correlation", reference, spread)
    size = (_WINDOW_PX, _WINDOW_PX)
    local = cv2.boxFilter(before * after * region, -1, size)
    power = np.sqrt(
        np.maximum(
            cv2.boxFilter(before**2 * region, -1, size) * cv2.boxFilter(after**2 * region, -1, size), 0
        )
    )
    heat = np.clip(local / (power + 0.3), 0, 1) * region
    return Finding(
        pb.DEFECT_KIND_LEFTOVER, max(0.0, measured.z_score) / LEFTOVER_Z, [measured], heat.astype(np.float32)
    )


def _shifts() -> list[tuple[int, int]]:
    return [
        (dy * r, dx * r)
        for r in _REACHES_PX
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0))
    ]


def _correlation(before: Plane, after: Plane, region: NDArray[np.bool_], shift: tuple[int, int]) -> float:
    one = np.roll(before, shift, axis=(0, 1))[region] if shift != (0, 0) else before[region]
    other = after[region]
    power = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum() / power) if power > 1e-6 else 0.0
