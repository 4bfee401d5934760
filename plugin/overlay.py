"""Where a critic found faults, painted over the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import ImageLimits, decode_mask

__all__ = ["heat_layer", "heat_of", "mask_outline", "overlay_heat_map"]

# Severity 0 is clear, 1 is opaque: yellow, orange, red, so that it also reads in grey.
_STOPS = np.array([0.0, 0.35, 0.7, 1.0])
_COLOURS = np.array([[255, 230, 90], [255, 180, 40], [235, 80, 30], [190, 10, 40]], np.float64)
_MAX_OPACITY = 0.8
_FAINTEST = 0.02


def overlay_heat_map(
    image: NDArray[np.uint8], heat_map: pb.HeatMap | None, mask: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """The picture with the faults and the mask's outline painted over it.

    Args:
        image: (H, W, 3) uint8.
        heat_map: a map of a critique; None paints no heat.
        mask: (H, W) in [0, 1], to outline; None draws no outline.

    Returns:
        (H, W, 3) uint8; pixels without heat and off the outline are the picture's own.

    Raises:
        ImageError: the map's picture cannot be decoded.
    """
    painted = image.astype(np.float64)
    if heat_map is not None:
        layer = heat_layer(heat_of(heat_map, image.shape[:2])).astype(np.float64)
        opacity = layer[..., 3:] / 255.0
        painted = painted * (1.0 - opacity) + layer[..., :3] * opacity
    result = np.round(painted).astype(np.uint8)
    if mask is not None:
        outer, inner = mask_outline(mask)
        result[outer], result[inner] = 255, 0
    return result


def heat_of(heat_map: pb.HeatMap, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A map at the picture's size, (H, W) severities in [0, 1]; 0 beyond its region.

    Raises:
        ImageError: the map's picture cannot be decoded.
    """
    box, whole = heat_map.region, np.zeros(shape[:2], np.float32)
    # A thin mask has a map of a few pixels, which no limit for photographs should refuse.
    levels = decode_mask(heat_map.image, ImageLimits(min_side=1))
    resized = PillowImage.fromarray(levels).resize((box.width, box.height), PillowImage.Resampling.BILINEAR)
    whole[box.y : box.y + box.height, box.x : box.x + box.width] = np.clip(np.asarray(resized), 0.0, 1.0)
    return whole


def heat_layer(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Severities (H, W) in [0, 1] as a colour layer, (H, W, 4) uint8 RGBA."""
    colour = [np.interp(heat, _STOPS, _COLOURS[:, channel]) for channel in range(3)]
    opacity = np.where(heat > _FAINTEST, np.sqrt(heat) * _MAX_OPACITY, 0.0) * 255
    return np.round(np.dstack([*colour, opacity])).astype(np.uint8)


def mask_outline(mask: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The mask's edge as two lines of one pixel, just outside and just inside; each (H, W)."""
    inside = mask > 0.5
    padded = np.pad(inside, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    grown, shrunk = np.logical_or.reduce(neighbours), np.logical_and.reduce(neighbours)
    return grown & ~inside, inside & ~shrunk
