"""The two masks of an edit: where the engine may denoise, and how its answer is blended in.

Denoise and blend mask differ on purpose: the engine gets a wider, whole-cell mask, so that no
latent cell mixes known and unknown pixels; the blend mask is feathered and lies inside it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError

__all__ = [
    "MIN_SIDE",
    "bounds",
    "check_mask",
    "check_source",
    "edit_masks",
    "feathered",
    "widened",
    "widened_to",
]

Array = NDArray[np.float32]

MIN_SIDE = 16
"""Shortest side of a picture that can be edited, in pixels."""

_MAX_PIXELS = 100_000_000
_FAINTEST = 0.02  # mask values below count as unmasked: painting programs leave such dust
_FEATHER_SHARE = 0.04  # of the mask's extent; editors use up to 10 %, which eats small objects
_FEATHER_PIXELS = (2, 16)


def check_source(source: NDArray[np.uint8]) -> None:
    """Refuse what is not a picture (H, W, 3) uint8 of an editable size.

    Raises: ImageError, with what came and what was expected.
    """
    if (
        not isinstance(source, np.ndarray)
        or source.ndim != 3
        or source.shape[2] != 3
        or source.dtype != np.uint8
    ):
        what = f"{source.dtype} {source.shape}" if isinstance(source, np.ndarray) else type(source).__name__
        raise ImageError(
            f"the source is {what}; expected a uint8 array (height, width, 3): convert it to RGB",
            field="source",
        )
    height, width = source.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            f"the source is {width}x{height} px; an edit needs at least {MIN_SIDE} px on the short side",
            reason=pb.ERROR_REASON_IMAGE_TOO_SMALL,
            field="source",
        )
    if height * width > _MAX_PIXELS:
        raise ImageError(
            f"the source has {height * width / 1e6:.0f} megapixels; at most {_MAX_PIXELS / 1e6:.0f} are taken",
            reason=pb.ERROR_REASON_IMAGE_TOO_LARGE,
            field="source",
        )


def check_mask(mask: NDArray[np.generic], size: tuple[int, int], name: str = "mask") -> Array:
    """The mask as (H, W) float32 in [0, 1], dust removed. Takes bool, uint8 (0..255) or float (0..1).

    size: (H, W) of the source. name: what messages call it.
    Raises: ImageError when it has another size, values that are no mask, or nothing is masked.
    """
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "buf":
        what = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ImageError(f"the {name} is {what}; expected bool, uint8 or float (height, width)", field=name)
    if mask.shape != size:
        raise ImageError(
            f"the {name} is {mask.shape[1]}x{mask.shape[0]} px and the source {size[1]}x{size[0]}; "
            f"resize one to the other",
            reason=pb.ERROR_REASON_MASK_SIZE,
            field=name,
        )
    scaled = mask.astype(np.float32) / (255 if mask.dtype == np.uint8 else 1)
    if not (scaled.min() >= 0 and scaled.max() <= 1):  # also false for NaN
        raise ImageError(
            f"the {name} holds values from {scaled.min()} to {scaled.max()}; expected 0 to 1", field=name
        )
    cleaned = np.where(scaled < _FAINTEST, np.float32(0), scaled)
    if not cleaned.any():
        raise ImageError(
            f"the {name} is empty: nothing is marked to be edited; paint the region to change",
            reason=pb.ERROR_REASON_MASK_EMPTY,
            field=name,
        )
    return cleaned


def edit_masks(
    source: NDArray[np.uint8], mask: NDArray[np.generic], blend_mask: NDArray[np.generic] | None
) -> tuple[Array, Array]:
    """What is marked and how it is blended, each (H, W) float32 in [0, 1]; the second is made when there is none.

    Raises: ImageError for a source or a mask that cannot be edited with.
    """
    check_source(source)
    marked = check_mask(mask, source.shape[:2])
    if blend_mask is None:
        return marked, feathered(marked)
    return marked, check_mask(blend_mask, source.shape[:2], "blend_mask")


def bounds(mask: Array) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of everything above 0, in pixels; right and bottom are exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def widened_to(mask: Array, radius: int) -> Array:
    """Maximum over a square of side 2 * radius + 1."""
    from scipy.ndimage import maximum_filter

    return np.asarray(maximum_filter(mask, size=2 * radius + 1, mode="constant"), np.float32)


def feathered(mask: Array) -> Array:
    """The blend mask of an edit: (H, W) float32 in [0, 1]; beyond it every pixel stays the source's own.

    A mask that is soft already is a blend mask as it is. A hard one gets a rim of 4 % of its extent, 2 to
    16 px wide, which lies outside it, so that what the user marked is replaced in full.
    """
    from scipy.ndimage import uniform_filter

    if ((mask > _FAINTEST) & (mask < 1 - _FAINTEST)).any():
        return mask
    left, top, right, bottom = bounds(mask)
    rim = int(np.clip(round(_FEATHER_SHARE * max(right - left, bottom - top)), *_FEATHER_PIXELS))
    soft = uniform_filter(widened_to(mask, rim // 2 + rim % 2), size=2 * (rim // 2) + 1, mode="nearest")
    blended = np.maximum(mask, np.asarray(soft, np.float32))
    return np.where(blended < _FAINTEST, np.float32(0), blended)


def widened(mask: Array, cell: int) -> Array:
    """The denoise mask of a working crop: hard, in whole latent cells. (h, w) float32 in {0, 1}; h, w
    multiples of `cell`.

    Any touched cell counts in full: stock pipelines sample one pixel of a cell instead, and lose thin lines.
    """
    height, width = mask.shape
    touched = mask.reshape(height // cell, cell, width // cell, cell).max(axis=(1, 3)) > _FAINTEST
    return np.kron(touched, np.ones((cell, cell), np.float32)).astype(np.float32)
