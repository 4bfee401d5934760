"""Injected faults of sharpness, grain and compression."""

from __future__ import annotations

import cv2
import numpy as np

from editcritic.server.training.defects.case import EditCase, Pixels, blend

__all__ = ["blur", "jpeg_blocks", "noise", "resolution", "sharpen"]

Rng = np.random.Generator


def blur(case: EditCase, severity: float, _rng: Rng) -> Pixels:
    """The inside out of focus."""
    return blend(case.clean, cv2.GaussianBlur(case.clean, (0, 0), 0.5 + 1.8 * severity), case.mask)


def resolution(case: EditCase, severity: float, _rng: Rng) -> Pixels:
    """The inside made at 0.77 to 0.25 of the photograph's resolution."""
    height, width = case.mask.shape
    scale = 0.85 - 0.6 * severity
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(case.clean, size, interpolation=cv2.INTER_AREA)
    return blend(case.clean, cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), case.mask)


def sharpen(case: EditCase, severity: float, _rng: Rng) -> Pixels:
    """Halos of an unsharp mask."""
    clean = case.clean.astype(np.float32)
    detail = clean - cv2.GaussianBlur(clean, (0, 0), 1.2)
    return blend(case.clean, np.clip(clean + (0.4 + 2.6 * severity) * detail, 0, 255), case.mask)


def noise(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """Grain that the photograph does not have."""
    grain = rng.normal(0, 2 + 14 * severity, (*case.mask.shape, 1)) + rng.normal(0, 2, case.clean.shape)
    return blend(case.clean, np.clip(case.clean + grain, 0, 255), case.mask)


def jpeg_blocks(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """Compression blocks on a grid of their own."""
    dy, dx = rng.integers(0, 8, 2)
    moved = np.roll(case.clean, (int(dy), int(dx)), axis=(0, 1))
    quality = round(45 - 37 * severity)
    _, data = cv2.imencode(".jpg", moved[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    coarse = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return blend(case.clean, np.roll(coarse, (-int(dy), -int(dx)), axis=(0, 1)), case.mask)
