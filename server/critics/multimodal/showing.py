"""The pictures that a multimodal model is shown: the region at native resolution, before, after, and outlined."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.views import Bounds, mask_box

__all__ = ["MAX_SIDE", "Showing", "show", "show_candidate"]

Pixels = NDArray[np.uint8]

MAX_SIDE = 896
"""Larger crops are shrunk to it; a mask of up to 560 pixels is seen at native resolution."""
LEAST_SIDE = 224
_CONTEXT_FACTOR = 1.6
_WHOLE_SIDE = 448
_OUTLINE = (255, 0, 255)


@dataclass(frozen=True, eq=False)
class Showing:
    """What does not depend on a candidate.

    Attributes:
        crop: the part that is shown, in pixels of the source.
        before: (h, w, 3) uint8; that part of the source.
        mask: (H, W) bool.
    """

    crop: Bounds
    before: Pixels
    mask: NDArray[np.bool_]


def show(edit: DecodedEdit) -> Showing:
    """Choose the crop of an edit: the mask's box and a third of it on every side."""
    mask = np.asarray((edit.denoise_mask if edit.blend_mask is None else edit.blend_mask) >= 0.5)
    if not mask.any():
        mask = np.asarray(edit.denoise_mask > 0)
    box = mask_box(mask.astype(np.float32))
    side = max(LEAST_SIDE, round(_CONTEXT_FACTOR * max(box.width, box.height)))
    height, width = mask.shape
    x, across = _span(box.x + box.width // 2, side, width)
    y, down = _span(box.y + box.height // 2, side, height)
    crop = Bounds(x, y, across, down)
    return Showing(crop, _fitted(edit.source[crop.slices], MAX_SIDE), mask)


def show_candidate(showing: Showing, image: Pixels) -> list[Pixels]:
    """The four pictures in the order of the questions: before, after, after with outline, whole with outline.

    Args:
        image: (H, W, 3) uint8.
    """
    after = _fitted(image[showing.crop.slices], MAX_SIDE)
    whole = _fitted(image, _WHOLE_SIDE)
    outlined = [
        _outline(picture, mask)
        for picture, mask in ((after, showing.mask[showing.crop.slices]), (whole, showing.mask))
    ]
    return [showing.before, after, *outlined]


def _span(middle: int, length: int, limit: int) -> tuple[int, int]:
    length = min(length, limit)
    return min(max(0, middle - length // 2), limit - length), length


def _fitted(picture: Pixels, longest: int) -> Pixels:
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(picture)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _outline(picture: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    height, width = picture.shape[:2]
    small = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    # Beside the region, not on it: what is judged stays visible.
    grown = cv2.dilate(small, np.ones((3, 3), np.uint8))
    lines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(picture.copy(), lines, -1, _OUTLINE, 1), np.uint8)
