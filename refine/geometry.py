"""Where an edit is worked on: a context crop round the mask at the engine's native resolution, stitched
back afterwards.

Source: the crop-and-stitch recipe of research/refine.md section 3 (Krita AI Diffusion and ComfyUI
CropAndStitch do the same).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.masks import bounds, widened

__all__ = ["Frame", "composite", "plan_frame"]

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """A part of the picture and the size at which an engine works on it.

    left, top, right, bottom: the crop in source pixels. width, height: the working size, multiples of the
    engine's own step.
    """

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the crop, to index the source with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def cut(self, picture: Pixels) -> Image.Image:
        """The crop of (H, W, 3) uint8 at working size."""
        return self._scaled(Image.fromarray(picture[self.place]), self.width, self.height)

    def cut_mask(self, mask: Array, cell: int) -> Array:
        """The denoise mask (height, width) in {0, 1} for a mask (H, W) in [0, 1]: whole cells, none lost by scaling."""
        crop = Image.fromarray((mask[self.place] > 0).astype(np.float32))
        scaled = np.asarray(self._scaled(crop, self.width, self.height))
        return widened(np.clip(scaled, 0, 1), cell)

    def back(self, picture: Array) -> Array:
        """A working picture (height, width, 3) float32 in [0, 1] at the crop's own size, unclipped detail
        kept in float."""
        size = (self.right - self.left, self.bottom - self.top)
        bands = [
            np.asarray(self._scaled(Image.fromarray(np.ascontiguousarray(band)), *size))
            for band in np.moveaxis(picture, -1, 0)
        ]
        return np.asarray(np.clip(np.stack(bands, axis=-1), 0, 1), np.float32)

    @staticmethod
    def _scaled(picture: Image.Image, width: int, height: int) -> Image.Image:
        # One resampler both ways: two different ones shift the picture by a fraction of a pixel.
        same = picture.size == (width, height)
        return picture if same else picture.resize((width, height), Image.Resampling.BICUBIC)


def _span(low: int, high: int, wanted: float, extent: int) -> tuple[int, int]:
    """A stretch of length `wanted` round [low, high) that stays inside [0, extent)."""
    length = min(extent, max(high - low, round(wanted)))
    start = round((low + high - length) / 2)
    start = min(max(0, start), extent - length)
    return start, start + length


def plan_frame(mask: Array, native: int, multiple: int, context: float) -> Frame:
    """Choose the crop for a mask (H, W) in [0, 1] that holds at least one pixel.

    native: side in pixels that the engine was made for. multiple: its sizes are multiples of this. context:
    crop side over the mask's longer side. The crop is square where the picture allows; a narrow picture
    keeps its shape at
    about native^2 pixels.
    """
    height, width = mask.shape
    left, top, right, bottom = bounds(mask)
    wanted = max(max(right - left, bottom - top) * context, min(native, 4 * multiple))
    x0, x1 = _span(left, right, wanted, width)
    y0, y1 = _span(top, bottom, wanted, height)
    scale = native / ((x1 - x0) * (y1 - y0)) ** 0.5
    sides = [max(multiple, round(extent * scale / multiple) * multiple) for extent in (x1 - x0, y1 - y0)]
    return Frame(x0, y0, x1, y1, *sides)


def composite(source: Pixels, picture: Array, blend: Array, frame: Frame) -> Pixels:
    """Lay an engine's picture over the source: (H, W, 3) uint8, bit for bit the source wherever `blend` is 0.

    picture: (h, w, 3) float32 in [0, 1] at working size. blend: (H, W) float32 in [0, 1].
    """
    result = source.copy()
    below = source[frame.place].astype(np.float32)
    weight = blend[frame.place][..., None]
    mixed = np.rint(below + weight * (255 * frame.back(picture) - below)).astype(np.uint8)
    result[frame.place] = np.where(weight > 0, mixed, source[frame.place])
    return result
