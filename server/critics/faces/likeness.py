"""How much a place is like a frontal face: gradient orientations, weighed by a linear discriminant.

The weights were learned from pictures that scikit-image carries (`editcritic.server.training.face_likeness`).

Source: histograms of oriented gradients (Dalal & Triggs 2005) with a linear discriminant (Hariharan et al. 2012).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.views import Bounds

__all__ = ["WEIGHTS", "features", "likeness", "patch"]

WEIGHTS = Path(__file__).with_name("likeness.safetensors")
SIDE = 32
_SCALES = (0.87, 1.0, 1.13)
_SHIFTS = (-0.06, 0.0, 0.06)
_LEAST_CONTRAST = 9.0
"""Standard deviation in levels under which a patch shows nothing."""


def likeness(grey: NDArray[np.uint8], box: Bounds) -> float:
    """About 1 for a face, about -1 for anything else, the best over small shifts and sizes.

    Args:
        grey: (H, W) uint8.
        box: the place.
    """
    weights, bias = _weights()
    return max(
        float(features(each) @ weights + bias) if float(each.std()) >= _LEAST_CONTRAST else -1.0
        for each in _patches(grey, box)
    )


def features(face: NDArray[np.float32]) -> NDArray[np.float64]:
    """Oriented gradients of (32, 32) float32, as (1568,) float64."""
    from skimage.feature import hog

    described = hog(face, orientations=8, pixels_per_cell=(4, 4), cells_per_block=(2, 2))
    return np.asarray(described, np.float64)


def patch(
    grey: NDArray[np.generic], x: float, y: float, side: float, size: int = SIDE
) -> NDArray[np.float32]:
    """A square of (H, W) at (x, y), resampled to (size, size) float32; the border goes on beyond the picture."""
    plane = np.asarray(grey, np.float32)
    step = side / size
    if step > 1.2:
        low, high = int(max(0, y - 4 * step)), int(y + side + 4 * step) + 1
        left, right = int(max(0, x - 4 * step)), int(x + side + 4 * step) + 1
        plane = cv2.GaussianBlur(plane[low:high, left:right], (0, 0), 0.45 * step).astype(np.float32)
        x, y = x - left, y - low
    matrix = np.array([[step, 0, x + step / 2 - 0.5], [0, step, y + step / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(plane, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.float32)


def _patches(grey: NDArray[np.uint8], box: Bounds) -> Iterator[NDArray[np.float32]]:
    for scale in _SCALES:
        side = box.width * scale
        for right in _SHIFTS:
            for down in _SHIFTS:
                x = box.x + box.width * (0.5 + right) - side / 2
                y = box.y + box.height * (0.5 + down) - side / 2
                yield patch(grey, x, y, side)


@cache
def _weights() -> tuple[NDArray[np.float64], float]:
    from safetensors.numpy import load_file

    stored = load_file(WEIGHTS)
    return np.asarray(stored["weights"], np.float64), float(stored["bias"][0])
