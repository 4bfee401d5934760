"""How far two pictures differ, pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["largest_change"]


def largest_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest difference of the three channels in levels: (H, W, 3) twice -> (H, W)."""
    # Channel by channel: a maximum over the last axis is thirty times slower.
    red, green, blue = cv2.split(cv2.absdiff(before, after))
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
