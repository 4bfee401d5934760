"""Edits that were answered perfectly."""

from __future__ import annotations

import cv2
import numpy as np

from editcritic.server.training.defects.case import EditCase, Pixels, Plane, blend

__all__ = ["clean_control"]


def clean_control(photo: Pixels, donor: Pixels, mask: Plane, seed: int) -> EditCase:
    """An edit that was answered perfectly.

    Args:
        photo: (H, W, 3) uint8, the answer.
        donor: (h, w, 3) uint8, another photograph, of which something is put into the mask.
        mask: (H, W) float32 in [0, 1].
        seed: decides what stands in the mask.
    """
    rng = np.random.default_rng(seed)
    alpha = mask
    if rng.random() < 0.5:
        # The object to be removed seldom fills the whole mask.
        depth = max(1, round(0.06 * float(np.sqrt((mask > 0.5).sum()))))
        shrunk = np.asarray(cv2.erode(mask, np.ones((2 * depth + 1,) * 2, np.uint8)), np.float32)
        alpha = shrunk if (shrunk > 0.5).sum() >= 50 else mask
    source = blend(photo, _foreign(photo, donor, rng), alpha)
    height, width = photo.shape[:2]
    other = (
        donor
        if donor.shape == photo.shape
        else cv2.resize(donor, (width, height), interpolation=cv2.INTER_AREA)
    )
    return EditCase(
        source=source, mask=mask, candidate=photo.copy(), clean=photo, donor=np.asarray(other, np.uint8)
    )


def _foreign(photo: Pixels, donor: Pixels, rng: np.random.Generator) -> Plane:
    """Something else: mostly another photograph, sometimes one colour with or without grain."""
    height, width = photo.shape[:2]
    choice = rng.random()
    if choice < 0.75:
        fitted = cv2.resize(donor, (width, height), interpolation=cv2.INTER_AREA)
        return fitted[:, ::-1].astype(np.float32)
    colour = rng.uniform(20, 235, 3).astype(np.float32)
    plain = np.broadcast_to(colour, photo.shape).astype(np.float32)
    return plain + rng.normal(0, 12, photo.shape).astype(np.float32) if choice < 0.88 else plain
