"""What both sampling nodes ask of the loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import refine_pb2

from .tensors import read_images, read_masks

__all__ = ["SEEDS", "first_edit", "whole_request"]

SEEDS = 2**62
"""The contract's seeds are smaller than ComfyUI's: they are taken modulo this."""


def first_edit(source: Any, mask: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The first picture (H, W, 3) and mask (H, W) of an IMAGE and a MASK. Raises: ImageError as `read_masks`."""
    picture = read_images(source)[0]
    height, width = picture.shape[:2]
    return picture, read_masks(mask[:1] if mask.ndim > 2 else mask, [(height, width)])[0]


def whole_request(asked: refine_pb2.RefineRequest) -> refine_pb2.RefineRequest:
    """The request with its defaults; without audits, as nothing here would learn from one."""
    from editcritic.refine.request import completed_request

    asked.race.audit = False
    return completed_request(asked)
