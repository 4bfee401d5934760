"""Where an edit is worked on: a context crop round the mask at the engine's native resolution, stitched
back afterwards.

Krita AI Diffusion and ComfyUI CropAndStitch do the same.
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

    left, top, right, bottom: the crop in source pixels; it may reach beyond the picture, which is mirrored there.
    width, height: the working size, multiples of the engine's own step. extent: height and width of the source.
    """

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int
    extent: tuple[int, int]

    @property
    def region(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what the crop shows of the picture."""
        height, width = self.extent
        return max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of `region`, to index the source with."""
        left, top, right, bottom = self.region
        return slice(top, bottom), slice(left, right)

    @property
    def margins(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and below, columns left and right, by which the crop reaches beyond the picture."""
        left, top, right, bottom = self.region
        return (top - self.top, self.bottom - bottom), (left - self.left, self.right - right)

    def cut(self, picture: Pixels, hidden: Array) -> Image.Image:
        """The crop of (H, W, 3) uint8 at working size.

        hidden: (H, W), above 0 where pixels are to be replaced; those never show up in the mirrored margin.
        """
        crop = picture[self.place]
        if any(sum(self.margins, ())):
            shown = _continued(crop, hidden[self.place] > 0)
            padded = np.pad(shown, (*self.margins, (0, 0)), mode="symmetric")
            (above, _), (before, _) = self.margins
            padded[above : above + crop.shape[0], before : before + crop.shape[1]] = crop
            crop = padded
        return self._scaled(Image.fromarray(crop), self.width, self.height)

    def cut_mask(self, mask: Array, cell: int) -> Array:
        """The denoise mask (height, width) in {0, 1} for a mask (H, W) in [0, 1]: whole cells, none lost by scaling."""
        crop = np.pad((mask[self.place] > 0).astype(np.float32), self.margins)
        scaled = np.asarray(self._scaled(Image.fromarray(crop), self.width, self.height))
        return widened(np.clip(scaled, 0, 1), cell)

    def cut_strengths(self, strengths: Array, cell: int) -> Array:
        """The mean of (H, W) over each cell of the working size: (height / cell, width / cell), in the same range."""
        crop = np.pad(strengths[self.place], self.margins, mode="edge")
        size = (self.width // cell, self.height // cell)
        cells = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BOX))
        return np.asarray(np.clip(cells, strengths.min(), strengths.max()), np.float32)

    def back(self, picture: Array) -> Array:
        """What a working picture (height, width, 3) float32 in [0, 1] shows of `region`, at the source's own size."""
        size = (self.right - self.left, self.bottom - self.top)
        bands = [
            np.asarray(self._scaled(Image.fromarray(np.ascontiguousarray(band)), *size))
            for band in np.moveaxis(picture, -1, 0)
        ]
        (above, below), (before, after) = self.margins
        whole = np.stack(bands, axis=-1)[above : size[1] - below, before : size[0] - after]
        return np.asarray(np.clip(whole, 0, 1), np.float32)

    @staticmethod
    def _scaled(picture: Image.Image, width: int, height: int) -> Image.Image:
        # One resampler both ways: two different ones shift the picture by a fraction of a pixel.
        same = picture.size == (width, height)
        return picture if same else picture.resize((width, height), Image.Resampling.BICUBIC)


def _continued(crop: Pixels, hidden: NDArray[np.bool_]) -> Pixels:
    """The crop with every hidden pixel replaced by the nearest one that is not; as it is when all are hidden."""
    from scipy.ndimage import distance_transform_edt

    if hidden.all() or not hidden.any():
        return crop
    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return np.asarray(crop[rows, columns])


def _span(low: int, high: int, wanted: float, extent: int, free: bool) -> tuple[int, int]:
    """A stretch of length `wanted` round [low, high); unless it is free, it stays inside [0, extent)."""
    length = max(high - low, round(wanted))
    if not free:
        length = min(extent, length)
    start = round((low + high - length) / 2)
    if not free:
        start = min(max(0, start), extent - length)
    return start, start + length


def plan_frame(mask: Array, native: int, multiple: int, context: float, centred: bool = False) -> Frame:
    """Choose the crop for a mask (H, W) in [0, 1] that holds at least one pixel.

    native: side in pixels that the engine was made for. multiple: its sizes are multiples of this. context:
    crop side over the mask's longer side. The crop is square where the picture allows; a narrow picture
    keeps its shape at about native^2 pixels. centred: keep the mask in the middle of a square, even if that
    reaches beyond the picture.
    """
    height, width = mask.shape
    left, top, right, bottom = bounds(mask)
    wanted = max(max(right - left, bottom - top) * context, min(native, 4 * multiple))
    free = centred and not (mask > 0).all()  # with nothing known there is nothing to mirror
    x0, x1 = _span(left, right, wanted, width, free)
    y0, y1 = _span(top, bottom, wanted, height, free)
    scale = native / ((x1 - x0) * (y1 - y0)) ** 0.5
    sides = [max(multiple, round(extent * scale / multiple) * multiple) for extent in (x1 - x0, y1 - y0)]
    return Frame(x0, y0, x1, y1, sides[0], sides[1], (height, width))


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
