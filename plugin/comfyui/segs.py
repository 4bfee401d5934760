"""Defects as SEGS, the segments that the detailers of ComfyUI-Impact-Pack work on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb

from .judging import Outcome
from .telling import kind_of

__all__ = ["SEG", "segments"]


class SEG(NamedTuple):
    """One segment, with the fields of Impact Pack's own tuple in their order.

    cropped_image: None, detailers cut it themselves. cropped_mask: (h, w) float32 of the crop. confidence: severity.
    crop_region, bbox: left, top, right, bottom, right and bottom exclusive. control_net_wrapper: None.
    """

    cropped_image: Any
    cropped_mask: NDArray[np.float32]
    confidence: float
    crop_region: tuple[int, int, int, int]
    bbox: tuple[int, int, int, int]
    label: str
    control_net_wrapper: Any = None


def segments(
    outcome: Outcome, mask: NDArray[np.float32], severity: float, crop_factor: float
) -> tuple[tuple[int, int], list[SEG]]:
    """The defects of at least that severity as SEGS: ((H, W), segments), gravest first.

    mask: the defect mask (H, W). crop_factor: side of a crop over the defect's own, at least 1.
    """
    height, width = mask.shape
    if not isinstance(outcome, pb.Critique):
        return (height, width), []
    grave = [each for each in outcome.defects if each.severity >= severity]
    return (height, width), [_segment(each, mask, crop_factor) for each in grave]


def _segment(defect: pb.Defect, mask: NDArray[np.float32], crop_factor: float) -> SEG:
    height, width = mask.shape
    box = defect.box
    left, right = _span(box.x, box.width, crop_factor, width)
    top, bottom = _span(box.y, box.height, crop_factor, height)
    inside = np.zeros_like(mask)
    here = slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
    # The map may show nothing at the defect's own place: then all of its box counts.
    inside[here] = mask[here] if mask[here].any() else 1
    bbox = (box.x, box.y, box.x + box.width, box.y + box.height)
    crop = (left, top, right, bottom)
    return SEG(None, inside[top:bottom, left:right], float(defect.severity), crop, bbox, kind_of(defect))


def _span(start: int, length: int, factor: float, extent: int) -> tuple[int, int]:
    wanted = min(extent, max(length, round(length * factor)))
    first = min(max(0, start - (wanted - length) // 2), extent - wanted)
    return first, first + wanted
