"""What the shipped network looks at: the edit's three views, cut to its input sizes.

The candidate and the source are cut to the same window around the mask, at native resolution up to
`MAX_SIDE`; the whole candidate is seen once more at `WHOLE_SIDE`. Four regions say where to pool: the core
of the inside, its rim, the ring around it, and the rest of the outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.views import ZERO, Bounds, mask_box, outside_of

__all__ = [
    "MAX_SIDE",
    "MIN_SIDE",
    "REGIONS",
    "WHOLE_SIDE",
    "EditView",
    "cut_axis",
    "find_regions",
    "look_at",
    "shrink_axis",
    "view_edit",
    "view_whole",
]

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]

MIN_SIDE = 256
"""Small masks still see enough of the photograph to learn what is usual in it."""
MAX_SIDE = 320
"""Larger windows are shrunk to it: time and memory stay bounded."""
WHOLE_SIDE = 96
CONTEXT_FACTOR = 1.5
LEAST_CONTEXT = 1.25
"""Of large masks, before the window is shrunk: grain and seams show at native resolution only."""
REGIONS = ("core", "rim", "ring", "outside")
_STRIDE = 32
_RIM_PX = 5
_RING_PX = 8


@dataclass(frozen=True, eq=False)
class EditView:
    """An edit, cut for the network; S is a multiple of 32 from 256 to 320.

    Attributes:
        window: square in pixels of the source; it may reach beyond the photograph.
        photo: the part of the window that lies in the photograph.
        side: S.
        source: (S, S, 3) uint8.
        alpha: (S, S) float32 in [0, 1]; share of the fill in each pixel.
        regions: (4, S, S) float32 in {0, 1}, in the order of `REGIONS`.
        whole_alpha: (96, 96) float32 in [0, 1].
    """

    window: Bounds
    photo: Bounds
    side: int
    source: Pixels
    alpha: Plane
    regions: Plane
    whole_alpha: Plane

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """The window of a picture (H, W, 3) or a plane (H, W) of the source's size, (S, S, ...)."""
        return _cut(image, self.window, self.side)

    def within_photo(self, plane: NDArray[Any]) -> NDArray[Any]:
        """The part of a plane (S, S) of the window that lies in the photograph."""
        scale = self.side / self.window.width
        x, y = round((self.photo.x - self.window.x) * scale), round((self.photo.y - self.window.y) * scale)
        width, height = (max(1, round(length * scale)) for length in (self.photo.width, self.photo.height))
        return np.ascontiguousarray(plane[y : y + height, x : x + width])


def view_edit(edit: DecodedEdit) -> EditView:
    """Choose the window of an edit and cut what does not depend on a candidate."""
    blend = edit.denoise_mask if edit.blend_mask is None else edit.blend_mask
    height, width = blend.shape
    window = _window(mask_box(blend), (height, width))
    side = min(MAX_SIDE, -(-window.width // _STRIDE) * _STRIDE)
    alpha = np.clip(_cut(blend, window, side, padding=0.0), 0.0, 1.0).astype(np.float32)
    alpha = alpha / max(float(alpha.max()), ZERO) if alpha.max() < 0.5 else alpha
    untouched = _cut(outside_of(edit).astype(np.float32), window, side, padding=0.0) > 1.0 - ZERO
    x0, y0 = max(window.x, 0), max(window.y, 0)
    x1, y1 = min(window.x + window.width, width), min(window.y + window.height, height)
    return EditView(
        window=window,
        photo=Bounds(x0, y0, x1 - x0, y1 - y0),
        side=side,
        source=_cut(edit.source, window, side),
        alpha=alpha,
        regions=find_regions(alpha, untouched),
        whole_alpha=_shrink(blend.astype(np.float32)),
    )


def view_whole(source: Pixels) -> EditView:
    """A view of the whole photograph for a network that is to find the edit: no mask, no regions."""
    height, width = source.shape[:2]
    longest = max(height, width)
    side = min(MAX_SIDE, max(MIN_SIDE, -(-longest // _STRIDE) * _STRIDE))
    window = Bounds(-((longest - width) // 2), -((longest - height) // 2), longest, longest)
    nothing = np.zeros((side, side), np.float32)
    return EditView(
        window=window,
        photo=Bounds(0, 0, width, height),
        side=side,
        source=_cut(source, window, side),
        alpha=nothing,
        regions=np.zeros((len(REGIONS), side, side), np.float32),
        whole_alpha=np.zeros((WHOLE_SIDE, WHOLE_SIDE), np.float32),
    )


def look_at(view: EditView, image: Pixels) -> tuple[Pixels, Pixels]:
    """A candidate's window (S, S, 3) and the whole of it (96, 96, 3), both uint8."""
    return view.cut(image), _shrink(image)


def cut_axis(columns: Plane, start: int, length: int, side: int) -> Plane:
    """The window's cut along one axis alone, (side, k), of (n, k) float32.

    Args:
        start, length: of the window along that axis, which may reach beyond the n pixels.
        side: S.
    """
    count = len(columns)
    low, high = max(start, 0), min(start + length, count)
    gaps = (low - start, start + length - high)
    part = np.asarray(cv2.copyMakeBorder(columns[low:high], *gaps, 0, 0, cv2.BORDER_REFLECT), np.float32)
    return part if length == side else shrink_axis(part, side)


def shrink_axis(columns: Plane, side: int) -> Plane:
    """(side, k) of (n, k) float32: resized along the first axis as `look_at` does along both."""
    size = (columns.shape[1], side)
    return np.asarray(cv2.resize(columns, size, interpolation=cv2.INTER_AREA), np.float32).reshape(side, -1)


def find_regions(alpha: Plane, untouched: NDArray[np.bool_]) -> Plane:
    """Core, rim, ring and outside, (4, S, S) float32 in {0, 1}.

    Args:
        alpha: (S, S) in [0, 1].
        untouched: (S, S) bool; where the candidate has to equal the source.
    """
    inside = alpha >= 0.5
    outside = untouched & ~inside
    plane = inside.astype(np.uint8)
    core = cv2.erode(plane, _disc(_RIM_PX)).astype(bool)
    core = core if core.any() else inside
    near = cv2.dilate((~untouched).astype(np.uint8) | plane, _disc(_RING_PX)).astype(bool)
    return np.stack([core, inside & ~core, outside & near, outside & ~near]).astype(np.float32)


def _disc(radius: int) -> Pixels:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)


def _window(box: Bounds, shape: tuple[int, int]) -> Bounds:
    longest = max(box.width, box.height)
    side = max(MIN_SIDE, min(MAX_SIDE, -(-round(CONTEXT_FACTOR * longest) // _STRIDE) * _STRIDE))
    side = max(side, round(LEAST_CONTEXT * longest))
    return Bounds(
        _start(box.x + box.width // 2, side, shape[1]),
        _start(box.y + box.height // 2, side, shape[0]),
        side,
        side,
    )


def _start(middle: int, side: int, limit: int) -> int:
    if side >= limit:
        return -((side - limit) // 2)
    return min(max(0, middle - side // 2), limit - side)


def _cut(image: NDArray[Any], window: Bounds, side: int, padding: float | None = None) -> NDArray[Any]:
    height, width = image.shape[:2]
    x0, y0 = max(window.x, 0), max(window.y, 0)
    x1, y1 = min(window.x + window.width, width), min(window.y + window.height, height)
    part = np.ascontiguousarray(image[y0:y1, x0:x1])
    gaps = (y0 - window.y, window.y + window.height - y1, x0 - window.x, window.x + window.width - x1)
    if any(gaps):
        how = cv2.BORDER_REFLECT if padding is None else cv2.BORDER_CONSTANT
        part = np.asarray(cv2.copyMakeBorder(part, *gaps, how, value=padding or 0))
    if part.shape[0] != side:
        part = np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA))
    return part


def _shrink(image: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.resize(image, (WHOLE_SIDE, WHOLE_SIDE), interpolation=cv2.INTER_AREA))
