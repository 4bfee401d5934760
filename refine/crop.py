"""The part of a picture that a repair without diffusion works on: the mask with some of its surroundings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.masks import bounds

__all__ = ["Crop", "cropped", "enlarged", "from_lab", "spread", "to_lab"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_INSIDE = 0.9  # blend weight above which a pixel is the engine's own
_MARGIN_PX = 24


@dataclass(frozen=True, eq=False)
class Crop:
    """Source and edit near the mask.

    source, picture: (H, W, 3) uint8, whole. blend: (H, W) float32 in [0, 1]. place: rows and columns of the crop.
    """

    source: Pixels
    picture: Pixels
    blend: Array
    place: tuple[slice, slice]

    @cached_property
    def before(self) -> Array:
        """The source's crop, (h, w, 3) float32, 0..255."""
        return self.source[self.place].astype(np.float32)

    @cached_property
    def now(self) -> Array:
        """The edit's crop, (h, w, 3) float32, 0..255."""
        return self.picture[self.place].astype(np.float32)

    @cached_property
    def weight(self) -> Array:
        """The blend mask's crop, (h, w)."""
        return self.blend[self.place].astype(np.float32)

    @property
    def inside(self) -> Mask:
        """(h, w): where the edit stands alone."""
        return np.asarray(self.weight > _INSIDE)

    @property
    def outside(self) -> Mask:
        """(h, w): where the source stands alone."""
        return np.asarray(self.weight == 0)

    @property
    def has_both_sides(self) -> bool:
        """Whether there is an inside and an outside to compare."""
        return bool(self.inside.any() and self.outside.any())

    def unchanged(self) -> Pixels:
        """The edit as it is, and the source bit for bit beyond the blend mask."""
        return np.where(self.blend[..., None] > 0, self.picture, self.source)

    def changed(self, new: Array) -> Pixels:
        """The edit with a new crop (h, w, 3), 0..255, by the blend mask; beyond it the source bit for bit."""
        return self.replaced(self.now + self.weight[..., None] * (new - self.now))

    def replaced(self, new: Array) -> Pixels:
        """The edit with a new crop (h, w, 3), 0..255, wherever the mask blends; beyond it the source bit for bit."""
        result = self.unchanged()
        levels = np.clip(np.rint(new), 0, 255).astype(np.uint8)
        result[self.place] = np.where(self.weight[..., None] > 0, levels, result[self.place])
        return result


def cropped(source: Pixels, picture: Pixels, blend: Array, margin: int | None = None) -> Crop:
    """The crop round a blend mask (H, W) in [0, 1] that holds at least one pixel.

    margin: pixels around the mask; by default half of its extent, so that there is something to compare with.
    """
    left, top, right, bottom = bounds(np.asarray(blend, np.float32))
    if margin is None:
        margin = max(_MARGIN_PX, (right - left) // 2, (bottom - top) // 2)
    rows = slice(max(0, top - margin), bottom + margin)
    return Crop(source, picture, blend, (rows, slice(max(0, left - margin), right + margin)))


def to_lab(crop: Array) -> Array:
    """CIELAB of sRGB (h, w, 3), 0..255."""
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(crop / np.float32(255)), np.float32)


def from_lab(lab: Array) -> Array:
    """sRGB, 0..255, of CIELAB (h, w, 3)."""
    from skimage.color import lab2rgb

    with warnings.catch_warnings():
        # Shifted colours may lie outside sRGB; they are cut off there, which is what is wanted.
        warnings.filterwarnings("ignore", message="Conversion from CIE-LAB", category=UserWarning)
        return np.asarray(lab2rgb(lab) * 255, np.float32)


def spread(plane: Array, sigma: float) -> Array:
    """A Gaussian of `sigma` pixels over (h, w) or over each band of (h, w, c)."""
    from scipy.ndimage import gaussian_filter

    each = (sigma, sigma, 0.0) if plane.ndim == 3 else sigma
    return np.asarray(gaussian_filter(plane, each, truncate=3.0), np.float32)


def enlarged(field: Array, factor: int, shape: tuple[int, ...]) -> Array:
    """A smooth field (h, w, c) in cells of `factor` pixels, as pixels (H, W, c): the first `shape` of them."""
    from PIL import Image

    size = (field.shape[1] * factor, field.shape[0] * factor)
    bands = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(band, np.float32)).resize(size, Image.Resampling.BILINEAR)
        )
        for band in np.moveaxis(field, -1, 0)
    ]
    return np.stack(bands, axis=-1)[: shape[0], : shape[1]]
