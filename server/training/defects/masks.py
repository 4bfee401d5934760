"""Masks as people draw them."""

from __future__ import annotations

import cv2
import numpy as np

from editcritic.server.training.defects.case import Pixels, Plane

__all__ = ["draw_mask", "draw_stroke", "soften"]


def draw_mask(shape: tuple[int, int], seed: int, share: tuple[float, float] = (0.04, 0.2)) -> Plane:
    """A hard box, ellipse or free-form stroke, (H, W) float32; `share` bounds its part of the picture.

    Source: free-form strokes as in Yu et al., "Free-form image inpainting with gated convolution" (2019).
    """
    rng = np.random.default_rng(seed)
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    side = np.sqrt(rng.uniform(*share) * height * width)
    stretch = float(np.exp(rng.uniform(-0.5, 0.5)))
    half = (max(4, int(side * stretch / 2)), max(4, int(side / stretch / 2)))
    middle = tuple(
        int(rng.uniform(min(part, length / 2), max(length - part, length / 2)))
        for part, length in zip(half, (width, height), strict=True)
    )
    shape_kind = rng.integers(3)
    if shape_kind == 0:
        corner = (middle[0] - half[0], middle[1] - half[1])
        cv2.rectangle(mask, corner, (middle[0] + half[0], middle[1] + half[1]), 1, -1)
    elif shape_kind == 1:
        cv2.ellipse(mask, middle, half, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    else:
        _stroke(mask, middle, side, rng)
    return mask.astype(np.float32)


def draw_stroke(shape: tuple[int, int], seed: int, share: float = 0.1) -> Plane:
    """A free-form stroke of about this share of the picture, (H, W) float32 in {0, 1}."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    side = float(np.sqrt(share * shape[0] * shape[1]))
    middle = tuple(int(rng.uniform(0.25, 0.75) * length) for length in shape[::-1])
    _stroke(mask, middle, side, rng)
    return mask.astype(np.float32)


def soften(mask: Plane, radius_px: float) -> Plane:
    """The mask with a rim blurred by a Gaussian of `radius_px`; 0 leaves it hard."""
    if radius_px <= 0:
        return mask
    soft = cv2.GaussianBlur(mask, (0, 0), radius_px)
    return np.where(soft < 0.01, 0.0, soft).astype(np.float32)


def _stroke(mask: Pixels, start: tuple[int, ...], side: float, rng: np.random.Generator) -> None:
    thickness = max(6, int(side * 0.35))
    point, angle = np.array(start, float), rng.uniform(0, 2 * np.pi)
    limit = np.array(mask.shape[::-1], float) - 1
    for _ in range(int(rng.integers(2, 5))):
        angle += rng.uniform(-1.2, 1.2)
        following = np.clip(point + side * 0.5 * np.array([np.cos(angle), np.sin(angle)]), 0, limit)
        ends = (int(point[0]), int(point[1])), (int(following[0]), int(following[1]))
        cv2.line(mask, *ends, color=1, thickness=thickness)
        point = following
