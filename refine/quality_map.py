"""Where an edit is poor, middling or good, as three soft masks: each part is then treated by its own means.

Source: Q-Refine (arXiv 2401.01117), which redraws what is of low quality, inpaints what is of medium quality and
enhances what is of high quality; here from a critic's heat map, or from its defects' boxes where no map was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.masks import feathered
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_mask

__all__ = ["QualityParts", "fault_map", "quality_parts"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

LOW, MEDIUM = (
    0.6,
    0.3,
)  # severity from which a place is of low, of medium quality: 0.3 is where a defect is named
_GROW_SHARE = 0.06  # of the extent of the edit: a fault reaches a little beyond where it is seen
_GROW_PIXELS = (2, 16)
_ISLAND_SHARE = 0.01  # of the edit: smaller parts cannot be worked on by themselves


@dataclass(frozen=True, eq=False)
class QualityParts:
    """The edit in three: low, medium, high, each (H, W) float32 in [0, 1], with soft rims, nowhere beyond the edit.

    Before softening they are disjoint and cover the edit; a part may be empty.
    """

    low: Array
    medium: Array
    high: Array

    @property
    def is_uneven(self) -> bool:
        """Whether there is a part to work on and a part to keep."""
        return bool((self.low.any() or self.medium.any()) and self.high.any())


def fault_map(critique: pb.Critique, size: tuple[int, int]) -> Array:
    """Severity per pixel, (H, W) float32 in [0, 1]; size: (H, W) of the source.

    From the joined heat map where the critique has one; else each defect fills the ellipse in its box.
    """
    severity = np.zeros(size, np.float32)
    joined = [each for each in critique.heat_maps if each.kind == pb.DEFECT_KIND_UNSPECIFIED]
    for each in joined or critique.heat_maps:
        _lay(severity, each.region, _scaled(decode_mask(each.image), each.region))
    if not critique.heat_maps:
        for defect in critique.defects:
            _lay(severity, defect.box, defect.severity * _ellipse(defect.box))
    return severity


def quality_parts(severity: Array, mask: Array) -> QualityParts:
    """Three soft masks inside an edit.

    severity: (H, W) in [0, 1], as `fault_map` gives it. mask: (H, W) in [0, 1], what may be edited.
    """
    edit = mask > 0.5
    low = _whole(severity >= LOW, edit)
    medium = _whole((severity >= MEDIUM) & ~low, edit) & ~low
    high = edit & ~low & ~medium
    return QualityParts(*(_softened(part, mask) for part in (low, medium, high)))


def _whole(part: Mask, edit: Mask) -> Mask:
    """A part closed, grown, rid of islands too small to work on, and kept inside the edit."""
    from scipy.ndimage import binary_closing, binary_dilation, label

    area = int(edit.sum())
    radius = int(np.clip(round(_GROW_SHARE * area**0.5), *_GROW_PIXELS))
    disc = np.hypot(*np.ogrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    closed = binary_closing(np.pad(part & edit, radius), disc)[radius:-radius, radius:-radius]
    islands, count = label(closed)
    sizes = np.bincount(islands.ravel(), minlength=count + 1)
    large = sizes >= max(4, _ISLAND_SHARE * area)
    large[0] = False
    return np.asarray(binary_dilation(large[islands], disc) & edit)


def _softened(part: Mask, mask: Array) -> Array:
    """The part with a soft rim, which does not leave the mask."""
    if not part.any():
        return np.zeros(mask.shape, np.float32)
    return np.asarray(np.minimum(feathered(part.astype(np.float32)), mask), np.float32)


def _lay(severity: Array, box: pb.Box, values: Array) -> None:
    """The larger of both, within a box; what the box has beyond the picture is left out."""
    place = (slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
    seen = severity[place]
    severity[place] = np.maximum(seen, values[: seen.shape[0], : seen.shape[1]])


def _scaled(values: NDArray[Any], box: pb.Box) -> Array:
    from PIL import Image

    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize((box.width, box.height), Image.Resampling.BILINEAR), np.float32)


def _ellipse(box: pb.Box) -> Array:
    rows = (np.arange(box.height) + 0.5) / box.height * 2 - 1
    columns = (np.arange(box.width) + 0.5) / box.width * 2 - 1
    return (np.hypot(rows[:, None], columns[None, :]) <= 1).astype(np.float32)
