"""What of the source stands where it should not, and what of it is missing: leaks and ghosts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.crop import Crop, cropped

__all__ = ["recomposited", "unghosted"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

_STRUCTURE = 6.0  # levels from which a gradient of the source would show
_SAME = 2.0  # levels: nearer than that, a pixel was taken over and not mixed
_ENOUGH = 200  # gradients
_SHARES = np.linspace(0, 0.9, 91)
_BELIEVED = (0.03, 0.75)  # a share beyond is an answer that resembles the source, not a ghost of it
_RATIO = 0.985


def recomposited(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """The picture with every pixel beyond the blend mask taken from the source again."""
    return np.where(blend[..., None] > 0, picture, source)


def unghosted(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """The source subtracted where it shines through the whole inside by one share; else the picture as it is.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]; beyond it the source bit for bit. The share is the one
    that leaves the sparsest gradients: what two pictures have in common by accident is little (Levin & Weiss 2007,
    with one of the layers known).
    """
    crop = cropped(source, picture, blend)
    share = _share(crop)
    if share == 0:
        return crop.unchanged()
    return crop.changed((crop.now - share * crop.before) / (1 - share))


def _share(crop: Crop) -> float:
    """How much of the source the inside holds; 0 when there is no sign of it."""
    mixed = crop.inside & (np.abs(crop.now - crop.before).max(axis=-1) > _SAME)
    behind, shown = (_gradients(levels, mixed) for levels in (crop.before, crop.now))
    telling = np.abs(behind) >= _STRUCTURE
    if telling.sum() < _ENOUGH:
        return 0.0
    behind, shown = behind[telling], shown[telling]
    left = np.array([np.sqrt(np.abs(shown - share * behind) + 0.5).mean() for share in _SHARES])
    best = int(np.argmin(left))
    believed = _BELIEVED[0] <= _SHARES[best] <= _BELIEVED[1] and left[best] < _RATIO * left[0]
    return float(_SHARES[best]) if believed else 0.0


def _gradients(levels: Array, where: NDArray[np.bool_]) -> Array:
    """Differences of neighbours in both directions and all channels, as far as both lie in `where`: (n,)."""
    down = np.diff(levels, axis=0)[where[1:] & where[:-1]]
    across = np.diff(levels, axis=1)[where[:, 1:] & where[:, :-1]]
    return np.concatenate([down.ravel(), across.ravel()])
