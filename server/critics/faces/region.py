"""The part of a photograph in which an edit may touch faces, at a bounded size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.faces.detection import Face, FaceDetector
from editcritic.server.critics.views import Bounds, mask_box

__all__ = ["FaceRegion", "region_of"]

_CONTEXT = 2.0
"""Side of the crop over the mask's longer one: a face that the mask only grazes lies within, as do some neighbours."""
_LEAST_PX = 320
"""A small mask may lie on a large face."""
_WORKING_SIDE = 320
"""A face that fills a tenth of the crop still has the detector's least size."""
_TOUCHED = 0.02
"""Share of a face's middle from which the edit touches it."""


@dataclass(frozen=True, eq=False)
class FaceRegion:
    """Where to look.

    Attributes:
        crop: in pixels of the source.
        scale: working pixels per source pixel, at most 1.
        edited: (H, W) bool, what the edit may change, of the whole photograph.
    """

    crop: Bounds
    scale: float
    edited: NDArray[np.bool_]

    def find(self, detector: FaceDetector, picture: NDArray[np.uint8]) -> list[Face]:
        """Faces of (H, W, 3) uint8 in the region, boxes in pixels of the picture."""
        part = np.ascontiguousarray(picture[self.crop.slices])
        if self.scale < 1:
            size = (round(part.shape[1] * self.scale), round(part.shape[0] * self.scale))
            part = cv2.resize(part, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        return [Face(self._outwards(face.box), face.confidence) for face in detector.find(part)]

    def covered(self, box: Bounds) -> float:
        """Share of a face's middle, without the corners of its box, that the edit may change; 0 for a mere touch."""
        rows, columns = np.mgrid[0 : box.height, 0 : box.width]
        across = (columns + 0.5) / box.width * 2 - 1
        down = (rows + 0.5) / box.height * 2 - 1
        middle = np.hypot(across, down) <= 1
        changed = self.edited[box.slices]
        share = float(changed[middle[: changed.shape[0], : changed.shape[1]]].mean())
        return share if share >= _TOUCHED else 0.0

    def _outwards(self, box: Bounds) -> Bounds:
        x, y = self.crop.x + round(box.x / self.scale), self.crop.y + round(box.y / self.scale)
        height, width = self.edited.shape
        side = (round(box.width / self.scale), round(box.height / self.scale))
        return Bounds(x, y, min(side[0], width - x), min(side[1], height - y))


def region_of(edit: DecodedEdit) -> FaceRegion:
    """The mask's surroundings."""
    blend = edit.denoise_mask if edit.blend_mask is None else edit.blend_mask
    box = mask_box(blend)
    height, width = blend.shape
    side = max(round(_CONTEXT * max(box.width, box.height)), _LEAST_PX)
    x, wide = _span(box.x + box.width // 2, side, width)
    y, tall = _span(box.y + box.height // 2, side, height)
    crop = Bounds(x, y, wide, tall)
    return FaceRegion(crop, min(1.0, _WORKING_SIDE / max(wide, tall)), blend > 0.5)


def _span(centre: int, wanted: int, limit: int) -> tuple[int, int]:
    """Where a stretch round a centre begins within the picture, and how long it is."""
    length = min(limit, wanted)
    return min(max(0, centre - length // 2), limit - length), length
