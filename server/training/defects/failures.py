"""Injected failures of the edit itself: nothing done, something left, too much done."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.training.defects.case import EditCase, Pixels, blend, depth, part

__all__ = ["has_structure", "leftover", "outside_changed", "unchanged"]

Rng = np.random.Generator


def outside_changed(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """The outside blurred or shifted, a spot of it, or a halo that leaks over the mask's border."""
    outside = (case.mask == 0).astype(np.float32)
    shift = (3 + 9 * severity) * rng.choice([-1.0, 1.0], 3)
    variant = rng.integers(4)
    if variant == 0:
        blurred = cv2.GaussianBlur(case.clean, (0, 0), 0.5 + 1.2 * severity)
        return blend(case.clean, blurred, outside)
    if variant == 1:
        return blend(case.clean, case.clean + shift, outside)
    where = _spot(case, severity, rng) if variant == 2 else _halo(case, severity)
    # A spot that falls into the mask would change nothing.
    where = where * outside
    return blend(case.clean, case.clean + 3 * shift, where if where.sum() >= 30 else outside)


def _spot(case: EditCase, severity: float, rng: Rng) -> NDArray[np.float32]:
    height, width = case.mask.shape
    spot = np.zeros((height, width), np.float32)
    middle = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.2, 0.8) * height))
    cv2.circle(spot, middle, int((0.08 + 0.12 * severity) * max(height, width)), 1.0, -1)
    return spot


def _halo(case: EditCase, severity: float) -> NDArray[np.float32]:
    reach = 4 + 12 * severity
    return np.asarray(np.clip(1 + depth(case) / reach, 0, 1), np.float32)


def unchanged(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A part of the inside still is the source."""
    same = (part(case, severity, rng) > 0)[..., None]
    return np.where(same, case.source, case.clean)


def leftover(case: EditCase, severity: float, _rng: Rng) -> Pixels:
    """The source shines through."""
    return blend(case.clean, case.source, (0.1 + 0.5 * severity) * (case.mask > 0).astype(np.float32))


def has_structure(case: EditCase) -> bool:
    """Of a plain colour nothing recognisable can be left."""
    grey = cv2.cvtColor(case.source, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = cv2.GaussianBlur(grey, (0, 0), 0.7) - cv2.GaussianBlur(grey, (0, 0), 4.0)
    return float(fine[case.mask > 0.5].std()) > 6.0
