"""What a critic looks at: the context crop of an edit at a bounded working size, and its regions.

A soft rim is no defect: *outside* are only the pixels where both masks are zero, *inside* those where the
blend is at least half the fill's, and between them lies the rim, which belongs to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "Bounds",
    "Planes",
    "Views",
    "crop_pixels",
    "crop_planes",
    "lab_of",
    "make_views",
    "mask_box",
    "outside_of",
    "outside_of_crop",
]

Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]

CONTEXT_FACTOR = 2.5
"""Side of the crop over the side of the mask's box: one and a half boxes of context to compare with."""
MIN_CONTEXT_PX = 320
"""Small masks still see enough of the photograph to learn what is usual in it."""
MAX_WORKING_SIDE = 640
"""A mask of 256 px is judged at native size; memory and time stay bounded beyond it."""
RING_SHARE = 0.35
"""Width of the ring, as a share of the square root of the inside's area."""
ZERO = 1.0 / 510
"""A mask value below half of 1/255 is zero."""


@dataclass(frozen=True)
class Bounds:
    """A rectangle in pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def to_box(self) -> pb.Box:
        """The rectangle as a message."""
        return pb.Box(x=self.x, y=self.y, width=self.width, height=self.height)


@dataclass(frozen=True, eq=False)
class Views:
    """The context crop of an edit and its regions, all (h, w) at the working size.

    Attributes:
        crop: the crop, in pixels of the source.
        photo_shape: (H, W) of the source.
        scale: working pixels per source pixel, at most 1.
        alpha: float32 in [0, 1]; share of the fill in each pixel.
        inside: alpha of at least one half.
        core: the inside without its rim; the whole inside where nothing else is left.
        outside: both masks are zero.
        ring: the outside near the mask.
        distance: float32 signed distance to the border in pixels, positive inside, never zero.
        ramp_px: width of the soft rim in working pixels; 0 for a hard mask.
    """

    crop: Bounds
    photo_shape: tuple[int, int]
    scale: float
    alpha: Plane
    inside: Mask
    core: Mask
    outside: Mask
    ring: Mask
    distance: Plane
    ramp_px: float


@dataclass(frozen=True, eq=False)
class Planes:
    """A working crop as planes.

    Attributes:
        rgb: (h, w, 3) uint8, sRGB.
        luma: (h, w) float32, CIE L* stretched to 0..255 ("levels").
        a: (h, w) float32, CIE a*.
        b: (h, w) float32, CIE b*.
    """

    rgb: NDArray[np.uint8]
    luma: Plane
    a: Plane
    b: Plane


def outside_of(edit: DecodedEdit) -> Mask:
    """(H, W) bool: where both masks are zero."""
    outside: Mask = edit.denoise_mask < ZERO
    if edit.blend_mask is not None:
        outside &= edit.blend_mask < ZERO
    return outside


def make_views(edit: DecodedEdit) -> Views:
    """Cut the context crop and name its regions.

    A mask that never reaches one half is stretched until it does: an edit always has an inside.
    """
    blend = edit.denoise_mask if edit.blend_mask is None else edit.blend_mask
    crop = _context(mask_box(blend), (blend.shape[0], blend.shape[1]))
    scale = min(1.0, MAX_WORKING_SIDE / max(crop.width, crop.height))
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    alpha = _fit(np.clip(blend[crop.slices], 0.0, 1.0), size)
    touched = _fit((~outside_of_crop(edit, crop)).astype(np.float32), size)
    alpha = alpha / max(float(alpha.max()), ZERO) if alpha.max() < 0.5 else alpha
    inside = alpha >= 0.5
    distance = _signed_distance(inside)
    outside = (touched < ZERO) & ~inside
    ring_px = max(6.0, RING_SHARE * float(np.sqrt(inside.sum())))
    return Views(
        crop=crop,
        photo_shape=(blend.shape[0], blend.shape[1]),
        scale=scale,
        alpha=alpha,
        inside=inside,
        core=_core(alpha, inside, distance),
        outside=outside,
        ring=outside & (distance > -ring_px - _reach(outside, distance)),
        distance=distance,
        ramp_px=_ramp(alpha, inside),
    )


def outside_of_crop(edit: DecodedEdit, crop: Bounds) -> Mask:
    """(h, w) bool: where both masks are zero, within the crop."""
    outside: Mask = edit.denoise_mask[crop.slices] < ZERO
    if edit.blend_mask is not None:
        outside &= edit.blend_mask[crop.slices] < ZERO
    return outside


def crop_planes(image: NDArray[np.uint8], views: Views) -> Planes:
    """The crop of an image at the working size, as planes.

    Args:
        image: (H, W, 3) uint8, sRGB, of the source's size.
    """
    part = crop_pixels(image, views)
    return Planes(part, *lab_of(part))


def crop_pixels(image: NDArray[np.uint8], views: Views) -> NDArray[np.uint8]:
    """The crop of an image (H, W, 3) at the working size, (h, w, 3) uint8."""
    height, width = views.alpha.shape
    part = np.ascontiguousarray(image[views.crop.slices])
    if part.shape[:2] != (height, width):
        part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return part


def lab_of(pixels: NDArray[np.uint8]) -> tuple[Plane, Plane, Plane]:
    """Brightness in levels and both colour axes of CIE Lab, (h, w) float32 each, of (h, w, 3) uint8."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    luma = np.ascontiguousarray(lab[..., 0]) * np.float32(2.55)
    return luma, np.ascontiguousarray(lab[..., 1]), np.ascontiguousarray(lab[..., 2])


def mask_box(mask: Plane) -> Bounds:
    """The smallest rectangle around what is at least one half (or, without such a pixel, above zero)."""
    for level in (0.5, ZERO):
        chosen = mask >= level
        columns, rows = np.flatnonzero(chosen.any(axis=0)), np.flatnonzero(chosen.any(axis=1))
        if columns.size:
            x, y = int(columns[0]), int(rows[0])
            return Bounds(x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)
    return Bounds(0, 0, mask.shape[1], mask.shape[0])


def _context(box: Bounds, shape: tuple[int, int]) -> Bounds:
    x, width = _stretch(box.x, box.width, shape[1])
    y, height = _stretch(box.y, box.height, shape[0])
    return Bounds(x, y, width, height)


def _stretch(start: int, length: int, limit: int) -> tuple[int, int]:
    wanted = min(limit, max(round(length * CONTEXT_FACTOR), MIN_CONTEXT_PX))
    first = min(max(0, start + length // 2 - wanted // 2), limit - wanted)
    return first, wanted


def _fit(plane: Plane, size: tuple[int, int]) -> Plane:
    if (plane.shape[1], plane.shape[0]) == size:
        return np.ascontiguousarray(plane, np.float32)
    return np.asarray(cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)


def _signed_distance(inside: Mask) -> Plane:
    if inside.all():
        # Without an outside the photograph's own edge is the nearest border.
        padded = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, 5)
        return np.asarray(padded[1:-1, 1:-1], np.float32)
    inner = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    outer = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    return np.where(inside, inner - 0.5, 0.5 - outer).astype(np.float32)


def _core(alpha: Plane, inside: Mask, distance: Plane) -> Mask:
    """Fully filled pixels, a fifth of the inner radius away from the border."""
    depth = min(8.0, 0.2 * float(distance.max()))
    for core in ((alpha > 0.97) & (distance > depth), (alpha > 0.9) & inside):
        if core.any():
            return core
    return inside


def _reach(outside: Mask, distance: Plane) -> float:
    return float(-distance[outside].max()) if outside.any() else 0.0


def _ramp(alpha: Plane, inside: Mask) -> float:
    """Mean width of the rim: its area over the length of the border."""
    border = inside & ~cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    rim = int(((alpha > 0.05) & (alpha < 0.95)).sum())
    return rim / max(int(border.sum()), 1) if rim else 0.0
