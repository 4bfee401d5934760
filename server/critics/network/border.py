"""The steps across the mask's border as `evidence` measures them, against undisturbed copies of the same border.

Seam, tone, colour and light. The network learned from far fewer borders than a photograph itself shows; where both
look for one kind, the more conspicuous answer counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.evidence.border import find_border
from editcritic.server.critics.evidence.seam import BorderReference, border_reference, judge_border
from editcritic.server.critics.finding import Finding
from editcritic.server.critics.network.view import EditView
from editcritic.server.critics.reporting import Frame
from editcritic.server.critics.views import Views, crop_pixels, crop_planes, lab_of, make_views
from editcritic.v1 import critic_pb2 as pb

__all__ = ["BORDER_KINDS", "BorderScene", "in_view", "measure_border", "prepare_border"]

BORDER_KINDS: tuple[pb.DefectKind.ValueType, ...] = (
    pb.DEFECT_KIND_SEAM,
    pb.DEFECT_KIND_TONE_SHIFT,
    pb.DEFECT_KIND_COLOUR_SHIFT,
    pb.DEFECT_KIND_LIGHT_MISMATCH,
)

_DRAWN_FROM = 0.5


@dataclass(frozen=True, eq=False)
class BorderScene:
    """An edit's border, measured once for all its candidates.

    Attributes:
        views: the crop and its regions at the working size of `evidence`.
        reference: what undisturbed copies of the border show.
    """

    views: Views
    reference: BorderReference


def prepare_border(edit: DecodedEdit) -> BorderScene | None:
    """Find the border and its copies; None where the mask has no border within the photograph."""
    views = make_views(edit)
    border = find_border(views) if views.outside.any() else None
    if border is None:
        return None
    return BorderScene(views, border_reference(border, views, crop_planes(edit.source, views)))


def measure_border(scene: BorderScene, image: NDArray[np.uint8]) -> dict[int, Finding]:
    """A finding for each of `BORDER_KINDS`, in the scene's pixels; strength 1 is the threshold of `evidence`.

    Args:
        image: (H, W, 3) uint8.
    """
    band = crop_pixels(image, scene.views).reshape(-1, 3)[scene.reference.border.pixels]
    luma, a, b = lab_of(band[:, None])
    values = {"luma": luma.ravel(), "a": a.ravel(), "b": b.ravel()}
    found = judge_border(scene.reference, values, scene.views, drawn_from=_DRAWN_FROM)
    return {finding.kind: finding for finding in found}


def in_view(finding: Finding, scene: BorderScene, view: EditView, strength: float) -> Finding:
    """The finding in the pixels of the network's view, with another strength."""
    views = scene.views
    frame = Frame(views.crop, views.scale, views.photo_shape, views.inside)
    box = frame.to_source(finding.box) if finding.box is not None else None
    own = view.side / view.window.width
    scale = views.scale / own
    left, top = (
        (start - crop) * views.scale
        for start, crop in ((view.photo.x, views.crop.x), (view.photo.y, views.crop.y))
    )
    height, width = view.within_photo(view.alpha).shape
    matrix = np.array([[scale, 0, left], [0, scale, top]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    heat = None
    if finding.heat is not None:
        heat = np.asarray(cv2.warpAffine(finding.heat, matrix, (width, height), flags=flags), np.float32)
    return replace(finding, strength=strength, heat=heat, box=None, photo_box=box)
