"""Bands of tone: areas of one value with steps between them and nothing in between.

A slope of light that was rendered or stored with too few tones breaks into steps. A photograph's calm areas change by a
level here and there, from grain and rounding; bands do not change at all and then by many levels at once. What is
clipped to black or white is no band, and larger steps than bands have are edges of things.

Source: the idea of Wang, Kum, Chen and Kokaram, "A perceptual visibility metric for banding artifacts" (2016): steps
between uniform areas count, by their size.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.evidence.calibration import BAND_LEVELS
from editcritic.server.critics.evidence.fill import beyond_usual
from editcritic.server.critics.finding import Finding, figure
from editcritic.server.critics.views import Views
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Bands", "find_bands", "judge_bands"]

Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]

LEAST_STEP, LARGEST_STEP = 4, 40
"""Levels of the channel that changes most: less is the photograph's own grain, more an edge."""
CLIPPED_LEVELS = 2
WINDOW_PX = 7
EQUAL_SHARE = 0.25
"""Of the differences between neighbours, over the window; wide bands have more."""
SLIGHT_SHARE = 0.3
"""Changes that are less than a step, for each that is none."""
STEP_SHARE = 0.02


class Bands(NamedTuple):
    """Bands of a picture: where they are, and how large the steps around a pixel are, in levels."""

    found: Mask
    step: Plane


def find_bands(rgb: NDArray[np.uint8]) -> Bands:
    """Where (h, w, 3) has bands."""
    brightest, darkest = _channels(rgb, np.maximum), _channels(rgb, np.minimum)
    clipped = (darkest <= CLIPPED_LEVELS) | (brightest >= 255 - CLIPPED_LEVELS)
    equal, slight, steps, size = (np.zeros(rgb.shape[:2], np.float32) for _ in range(4))
    for axis in (0, 1):
        change = _channels(np.asarray(cv2.absdiff(rgb, _next(rgb, axis)), np.uint8), np.maximum)
        is_step = (change >= LEAST_STEP) & (change <= LARGEST_STEP) & ~clipped
        equal += (change == 0) & ~clipped
        slight += (change > 0) & (change < LEAST_STEP)
        steps += is_step
        size += change * is_step
    equal, slight, steps, size = (_mean_near(each / 2) for each in (equal, slight, steps, size))
    found = (equal > EQUAL_SHARE) & (slight < SLIGHT_SHARE * equal) & (steps > STEP_SHARE)
    return Bands(np.asarray(found), np.asarray(size / np.maximum(steps, 1e-6), np.float32))


def judge_bands(bands: Bands, views: Views, usual: NDArray[np.float64]) -> Finding:
    """The share of the core that has bands, beyond the most that a window of the photograph has, by their steps."""
    within = bands.found & views.core
    excess, measured = beyond_usual("band_share", float(bands.found[views.core].mean()), usual)
    step = float(np.median(bands.step[within])) if within.any() else 0.0
    heat = (bands.found & views.inside).astype(np.float32)
    return Finding(
        pb.DEFECT_KIND_BANDING,
        excess * step / BAND_LEVELS,
        [measured, figure("band_step", step, "levels")],
        heat,
    )


def _channels(rgb: NDArray[np.uint8], of: np.ufunc) -> NDArray[np.uint8]:
    """(h, w): the largest or the smallest channel; along the last axis NumPy is many times slower."""
    return np.asarray(of(of(rgb[..., 0], rgb[..., 1]), rgb[..., 2]))


def _next(rgb: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """Each pixel's neighbour below or to the right; the last one's is itself."""
    return np.concatenate([np.delete(rgb, 0, axis), np.take(rgb, [-1], axis)], axis)


def _mean_near(plane: NDArray[np.floating]) -> Plane:
    return np.asarray(cv2.boxFilter(plane, -1, (WINDOW_PX, WINDOW_PX)), np.float32)
