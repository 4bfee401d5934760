"""What can be measured of one face: structure, symmetry, sharpness, grain and the colour of its skin.

Sources: bilateral symmetry by correlation with the mirror image; noise by Immerkaer 1996.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.faces.likeness import likeness, patch
from editcritic.server.critics.views import Bounds, lab_of

__all__ = ["FIGURES", "measure_face"]

Plane = NDArray[np.float32]

FIGURES = ("unlikeness", "asymmetry", "softness", "grain", "skin_hue", "skin_chroma")
"""Names of the figures; more is worse, but for the last two, which are compared with other faces."""
_SIDE = 64
_MOST_SIDE = 128
"""Faces larger than this are measured at this size, as nobody looks at single pixels of them."""
_RING = 1.7
"""Side of the head's surroundings over the face's."""
_ANGLES = (-10.0, -5.0, 0.0, 5.0, 10.0)
_SHIFTS_PX = range(-6, 7, 2)
_FLOOR = 0.6
"""Levels under which detail is the camera's own."""
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6


def measure_face(picture: NDArray[np.uint8], box: Bounds) -> Mapping[str, float]:
    """The figures of a face.

    Args:
        picture: (H, W, 3) uint8, sRGB.
        box: of the face, in pixels of the picture.

    Returns:
        `FIGURES`: how little the place is like a face; 1 less the correlation of the halves; how far fine detail falls
        short of coarser detail, less the same around the head, in nepers; grain over that around the head, in nepers;
        hue in degrees and chroma of the skin, in CIE Lab.
    """
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    head, inner = _head(picture, box)
    luma, a, b = lab_of(head)
    face, ring = inner > 0.5, inner < 0.05
    skin = face & (np.abs(luma - np.median(luma[face])) < 2 * max(float(luma[face].std()), 1.0))
    red, yellow = float(np.median(a[skin])), float(np.median(b[skin]))
    return {
        "unlikeness": -likeness(grey, box),
        "asymmetry": _asymmetry(patch(grey, box.x, box.y, box.width, _SIDE)),
        "softness": _softness(luma, face) - _softness(luma, ring),
        "grain": float(np.log((_grain(luma, face) + _FLOOR) / (_grain(luma, ring) + _FLOOR))),
        "skin_hue": float(np.degrees(np.arctan2(yellow, red))),
        "skin_chroma": float(np.hypot(red, yellow)),
    }


def _head(picture: NDArray[np.uint8], box: Bounds) -> tuple[NDArray[np.uint8], Plane]:
    """The head at the measured size, and how far each pixel belongs to the face: 1 within an ellipse."""
    height, width = picture.shape[:2]
    margin = round((_RING - 1) / 2 * box.width)
    x0, y0 = max(0, box.x - margin), max(0, box.y - margin)
    x1, y1 = min(width, box.x + box.width + margin), min(height, box.y + box.height + margin)
    rows, columns = np.mgrid[y0:y1, x0:x1]
    across = (columns + 0.5 - box.x - box.width / 2) / (0.42 * box.width)
    down = (rows + 0.5 - box.y - box.height / 2) / (0.5 * box.height)
    radius = np.hypot(across, down)
    inner = np.select([radius <= 1, radius <= 1.25], [1.0, 0.2], 0.0).astype(np.float32)
    part = np.ascontiguousarray(picture[y0:y1, x0:x1])
    scale = min(1.0, _MOST_SIDE / box.width)
    if scale < 1:
        size = (max(8, round(part.shape[1] * scale)), max(8, round(part.shape[0] * scale)))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        inner = cv2.resize(inner, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return part, inner


def _asymmetry(face: Plane) -> float:
    """1 less the best correlation of a face (64, 64) with its mirror image over small turns and shifts."""
    low = cv2.GaussianBlur(face, (0, 0), _SIDE / 8)
    detail = cv2.GaussianBlur(face, (0, 0), 1.5) - low
    weight = _ellipse()
    best = -1.0
    for angle in _ANGLES:
        matrix = cv2.getRotationMatrix2D((_SIDE / 2 - 0.5, _SIDE / 2 - 0.5), angle, 1.0)
        turned = cv2.warpAffine(detail, matrix, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
        for shift in _SHIFTS_PX:
            best = max(best, _correlation(turned, np.roll(turned[:, ::-1], shift, axis=1), weight))
    return 1.0 - best


def _correlation(one: NDArray[Any], other: NDArray[Any], weight: Plane) -> float:
    first = one - np.average(one, weights=weight)
    second = other - np.average(other, weights=weight)
    norm = np.sqrt((weight * first**2).sum() * (weight * second**2).sum())
    return float((weight * first * second).sum() / max(float(norm), 1e-6))


@cache
def _ellipse() -> Plane:
    rows, columns = (np.mgrid[0:_SIDE, 0:_SIDE] + 0.5) / _SIDE * 2 - 1
    return np.asarray(np.hypot(rows / 0.9, columns / 0.75) <= 1, np.float32)


def _softness(luma: Plane, where: NDArray[np.bool_]) -> float:
    """Logarithm of middle over fine detail where there is most of it."""
    if where.sum() < 32:
        return 0.0
    one, two = cv2.GaussianBlur(luma, (0, 0), 0.8), cv2.GaussianBlur(luma, (0, 0), 2.0)
    middle, fine = np.abs(one - two)[where], np.abs(luma - one)[where]
    strong = middle >= np.quantile(middle, 0.7)
    return float(np.log((middle[strong].mean() + _FLOOR) / (fine[strong].mean() + _FLOOR)))


def _grain(luma: Plane, where: NDArray[np.bool_]) -> float:
    """Standard deviation of noise in levels where the picture is calm."""
    if where.sum() < 32:
        return 0.0
    noise = np.abs(cv2.filter2D(luma, -1, _NOISE, borderType=cv2.BORDER_REFLECT))[where]
    return float(1.4826 * np.quantile(noise, 0.4))
