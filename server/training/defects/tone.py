"""Injected faults of tone, colour and light."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from editcritic.server.training.defects.case import EditCase, Pixels, blend, depth, lab_shift, place

__all__ = ["banding", "colour_shift", "exposure", "light_gradient", "seam", "tone_shift"]

Rng = np.random.Generator


def seam(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A step that fades inwards, or a line, along a part of the border."""
    deep = depth(case)
    across, down = place(case)
    angle = rng.uniform(0, 2 * np.pi)
    sides = np.clip(1.2 + 2 * (np.cos(angle) * across + np.sin(angle) * down), 0, 1)
    sign = float(rng.choice([-1.0, 1.0]))
    step, line = np.where(deep > 0, np.exp(-deep / 7.0), 0.0), np.exp(-0.5 * (deep / 0.9) ** 2)
    fade = step if rng.random() < 0.5 else line
    amount = sign * (3 + 15 * severity) * fade * sides
    touched = replace(
        case, mask=np.where(case.mask > 0, np.maximum(case.mask, deep > -2), 0).astype(np.float32)
    )
    zero = np.zeros_like(amount)
    return lab_shift(touched, np.stack([amount, zero, zero], axis=-1))


def colour_shift(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """One hue and saturation shift of the whole inside."""
    angle, size = rng.uniform(0, 2 * np.pi), 4 + 16 * severity
    return lab_shift(case, np.array([0.0, size * np.cos(angle), size * np.sin(angle)]))


def tone_shift(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """The inside lighter or darker."""
    # Away from the near end of the scale, where a shift would clip to nothing.
    sign = 1.0 if case.clean[case.mask > 0.5].mean() < rng.uniform(90, 165) else -1.0
    return lab_shift(case, np.array([sign * (4 + 14 * severity), 0.0, 0.0]))


def light_gradient(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """Light from another side: a slope of brightness over the inside."""
    across, down = place(case)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (5 + 18 * severity) * np.clip(np.cos(angle) * across + np.sin(angle) * down, -1, 1)
    zero = np.zeros_like(slope)
    return lab_shift(case, np.stack([slope, zero, zero], axis=-1))


def exposure(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """The inside exposed by up to 1.3 stops more or less, in linear light; what is too bright clips."""
    bright = case.clean[case.mask > 0.5].mean() > rng.uniform(90, 165)
    stops = (-1.0 if bright else 1.0) * (0.25 + 1.05 * severity)
    linear = np.power(case.clean.astype(np.float32) / 255, 2.2) * np.float32(2.0**stops)
    return blend(case.clean, 255 * np.power(np.clip(linear, 0, 1), 1 / 2.2), case.mask)


def banding(case: EditCase, severity: float, _rng: Rng) -> Pixels:
    """Tones in steps of 6 to 30 levels."""
    step = 4 + 26 * severity
    # Bands are a fault of smooth areas: grain would dither them away.
    smooth = cv2.bilateralFilter(case.clean, 0, 12, 2)
    return blend(case.clean, np.round(smooth / step) * step, case.mask)
