"""Classical inpainting, kept out of training so that it can be measured on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.restoration import inpaint_biharmonic

__all__ = ["HELD_OUT_FILLS"]

Pixels = NDArray[np.uint8]
_RADIUS_PX = 5


def _telea(image: Pixels, hole: NDArray[np.uint8]) -> Pixels:
    return np.asarray(cv2.inpaint(image, hole, _RADIUS_PX, cv2.INPAINT_TELEA), np.uint8)


def _navier_stokes(image: Pixels, hole: NDArray[np.uint8]) -> Pixels:
    return np.asarray(cv2.inpaint(image, hole, _RADIUS_PX, cv2.INPAINT_NS), np.uint8)


def _biharmonic(image: Pixels, hole: NDArray[np.uint8]) -> Pixels:
    filled = inpaint_biharmonic(image, hole > 0, channel_axis=-1, split_into_regions=True)
    return np.clip(np.round(np.asarray(filled) * 255), 0, 255).astype(np.uint8)


HELD_OUT_FILLS: Mapping[str, Callable[[Pixels, NDArray[np.uint8]], Pixels]] = {
    "telea": _telea,
    "navier_stokes": _navier_stokes,
    "biharmonic": _biharmonic,
}
"""Name -> (image (H, W, 3) uint8, hole (H, W) uint8, not 0 where it is to be filled) -> filled image."""
