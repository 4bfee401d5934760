"""ComfyUI's pictures and masks, and which of them belong together.

IMAGE is float (B, H, W, 3 or 4) in [0, 1], MASK float (B, H, W). Of source, mask and edited pictures each may be a
batch of 1, which then holds for all, or of N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError

__all__ = ["as_image_tensor", "as_mask_tensor", "pick", "read_images", "read_masks", "shared_length"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_NO_ALPHA = (64, 64)  # what LoadImage gives as the mask of a picture without an alpha channel
_WHAT_TO_CONNECT = (
    "Paint one in LoadImage's mask editor (right click, Open in MaskEditor), or connect the mask that the picture was"
    " inpainted with: of LoadImageMask, of a segmentation node, or Krita's selection."
)


def read_images(image: Any) -> list[Pixels]:
    """An IMAGE as pictures (H, W, 3) uint8; an alpha channel is left out."""
    levels = np.asarray(image.detach().float().cpu().numpy())
    if levels.ndim == 3:
        levels = levels[None]
    return list(np.rint(np.clip(levels[..., :3], 0.0, 1.0) * 255).astype(np.uint8))


def read_masks(mask: Any, sizes: Sequence[tuple[int, int]], name: str = "mask") -> list[Array]:
    """A MASK as arrays (H, W) in [0, 1], each of the size (H, W) of its picture.

    Raises: ImageError when one is empty, or does not fit its picture's shape.
    """
    levels = np.asarray(mask.detach().float().cpu().numpy(), np.float32)
    levels = levels.reshape(-1, *levels.shape[-2:])
    count = shared_length({"picture": len(sizes), name: len(levels)})
    return [_fitted(pick(levels, index), pick(sizes, index), name) for index in range(count)]


def _fitted(mask: Array, size: tuple[int, int], name: str) -> Array:
    if not (mask > 0.5).any():
        raise ImageError(_empty(mask, name), reason=pb.ERROR_REASON_MASK_EMPTY, field=name)
    if mask.shape == size:
        return np.clip(mask, 0, 1)
    height, width = size
    if abs(mask.shape[1] * height / mask.shape[0] - width) > max(1.0, 0.01 * width):
        raise ImageError(
            f"the {name} is {mask.shape[1]}x{mask.shape[0]} px and its picture {width}x{height}: they have different"
            " shapes. Connect the mask of this very picture, or crop it to the same part.",
            reason=pb.ERROR_REASON_MASK_SIZE,
            field=name,
        )
    resized = Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, np.float32), 0, 1)


def _empty(mask: Array, name: str) -> str:
    if mask.shape == _NO_ALPHA:
        return (
            f"the {name} is 64x64 zeros: that is what LoadImage gives for a picture without an alpha channel, so"
            f" nothing is masked. {_WHAT_TO_CONNECT}"
        )
    return f"the {name} is empty: no pixel of it is above one half. {_WHAT_TO_CONNECT}"


def shared_length(lengths: dict[str, int]) -> int:
    """How many there are when a batch of 1 holds for all.

    Raises: ImageError when two batches have other lengths.
    """
    most = max(lengths.values())
    odd = [name for name, length in lengths.items() if length not in (1, most)]
    if odd or min(lengths.values()) == 0:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ImageError(
            f"these batches do not fit each other: {told}. Each has to be of 1, which then holds for all, or all of one"
            " length.",
            reason=pb.ERROR_REASON_IMAGE_SIZE,
        )
    return most


def pick(values: Any, index: int) -> Any:
    """The value of an index, where one value holds for all."""
    return values[0] if len(values) == 1 else values[index]


def as_image_tensor(pictures: Sequence[Pixels]) -> Any:
    """Pictures (H, W, 3) uint8 of one size as an IMAGE (B, H, W, 3)."""
    import torch

    return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255)


def as_mask_tensor(masks: Sequence[Array]) -> Any:
    """Arrays (H, W) of one size as a MASK (B, H, W)."""
    import torch

    return torch.from_numpy(np.stack(masks).astype(np.float32))
