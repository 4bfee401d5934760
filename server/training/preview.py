"""Previews that no engine had to make: what a predicted clean image looks like part-way through denoising.

Early predictions are blurry means with wrong tones and a coarse, smooth error; detail comes last. Real previews
of the embedded engine are used where they are measured (`editcritic eval --previews`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["as_preview"]

_BLUR_PX = 7.0
_ERROR_LEVELS = 22.0
_CELL_PX = 8


def as_preview(
    image: NDArray[np.uint8], mask: NDArray[np.float32], progress: float, seed: int
) -> NDArray[np.uint8]:
    """The candidate as it may look after a share of its steps.

    Args:
        image: (H, W, 3) uint8; the finished candidate.
        mask: (H, W) float32 in [0, 1]; outside of it nothing is predicted.
        progress: in (0, 1); share of the steps done.
        seed: of the error; the same for all candidates that are to be compared.
    """
    rng = np.random.default_rng(seed)
    left = (1.0 - progress) ** 1.5
    height, width = mask.shape
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.3 + _BLUR_PX * left)
    coarse = rng.normal(0, _ERROR_LEVELS * left, (height // _CELL_PX + 1, width // _CELL_PX + 1, 3))
    error = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    shown = image + mask[..., None] * (soft + error - image)
    return np.clip(np.round(shown), 0, 255).astype(np.uint8)
