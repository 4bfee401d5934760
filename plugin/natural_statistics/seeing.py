"""How an edit's inside differs from the ring round it, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from editcritic.plugin.natural_statistics.features import region_features, shrunk_region
from editcritic.v1.errors import InvalidInput

__all__ = ["FEWEST", "Seen", "see"]

FEWEST = 100
"""Pixels that inside and ring need at half of the picture's size: a square of 20 px in the picture."""
_GAP_PX = 7  # so that no window of the ring looks inside
_RING_SHARE = 0.5
_MARGIN_PX = 8


@dataclass(frozen=True, eq=False)
class Seen:
    """Figures of the inside less those of the ring, (50,), and the inside's size in pixels."""

    difference: NDArray[np.float64]
    inside_px: int


def see(source: NDArray[np.uint8], picture: NDArray[np.uint8], mask: NDArray[Any]) -> Seen:
    """Look at the inside of `picture` and at the ring of `source`.

    Raises: InvalidInput when shapes differ, or inside or ring is too small to have statistics.
    """
    if not (source.shape == picture.shape == (*mask.shape, 3)):
        raise InvalidInput(
            f"source {source.shape}, picture {picture.shape} and mask {mask.shape}: "
            "expected (H, W, 3) twice and (H, W)"
        )
    inside = mask > 0.5
    _check_size("inside of the mask", inside)
    reach = _GAP_PX + _RING_SHARE * np.sqrt(inside.sum())
    here = _around(inside, int(reach) + _MARGIN_PX)
    source, picture, inside, touched = source[here], picture[here], inside[here], mask[here] > 0
    distance = ndimage.distance_transform_edt(~touched)
    ring = (distance > _GAP_PX) & (distance <= reach)
    _check_size("ring round the mask", ring)
    difference = region_features(picture, inside) - region_features(source, ring)
    return Seen(difference, int(inside.sum()))


def _around(inside: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """The box of the mask and `margin` more, from an even corner: halving the picture must not hang on the crop."""
    box = ndimage.find_objects(inside.astype(np.int8))[0]
    first, second = (slice(max(0, side.start - margin) // 2 * 2, side.stop + margin) for side in box)
    return first, second


def _check_size(name: str, region: NDArray[np.bool_]) -> None:
    count = int(shrunk_region(region).sum())
    if count < FEWEST:
        raise InvalidInput(f"{name}: {count} pixels at half size; expected at least {FEWEST}")
