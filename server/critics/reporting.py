"""Findings as a critique: the part that every critic of ours writes in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.actions import suggest
from editcritic.server.critics.explain import describe_defect
from editcritic.server.critics.finding import DIMENSION_OF, Finding
from editcritic.server.critics.maps import heat_map
from editcritic.server.critics.views import Bounds, mask_box
from editcritic.v1 import critic_pb2 as pb

__all__ = ["DEFAULT_MAX_DEFECTS", "Frame", "make_defect", "make_maps", "worst_first"]

DEFAULT_MAX_DEFECTS = 16


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a photograph that a critic looked at.

    Attributes:
        crop: that part, in pixels of the source.
        scale: working pixels per source pixel.
        photo_shape: (H, W) of the source.
        inside: (h, w) bool at the working size.
    """

    crop: Bounds
    scale: float
    photo_shape: tuple[int, int]
    inside: NDArray[np.bool_]

    def to_source(self, box: Bounds) -> pb.Box:
        """A rectangle of the working crop, in pixels of the source."""
        x0 = self.crop.x + int(np.floor(box.x / self.scale))
        y0 = self.crop.y + int(np.floor(box.y / self.scale))
        x1 = self.crop.x + int(np.ceil((box.x + box.width) / self.scale))
        y1 = self.crop.y + int(np.ceil((box.y + box.height) / self.scale))
        height, width = self.photo_shape
        x0, y0 = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
        x1, y1 = min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)
        return pb.Box(x=x0, y=y0, width=x1 - x0, height=y1 - y0)


def worst_first(findings: Sequence[Finding], limit: int) -> list[Finding]:
    """The gravest findings, at most `limit` (0: 16)."""
    ordered = sorted(findings, key=lambda finding: (-finding.severity, finding.kind))
    return ordered[: limit or DEFAULT_MAX_DEFECTS]


def make_defect(finding: Finding, frame: Frame) -> pb.Defect:
    """A finding as a message: box in the source, words, suggested actions."""
    whole = mask_box(frame.inside.astype(np.float32))
    box = finding.photo_box or frame.to_source(finding.box or whole)
    mask_area = round(float(frame.inside.sum()) / frame.scale**2)
    return pb.Defect(
        kind=finding.kind,
        severity=finding.severity,
        box=box,
        evidence=finding.evidence,
        explanation=describe_defect(finding.kind, finding.place, finding.evidence, finding.severity),
        actions=suggest(finding.kind, box, mask_area),
        dimension=DIMENSION_OF[finding.kind],
    )


def make_maps(named: Sequence[Finding], frame: Frame, options: pb.CritiqueOptions) -> list[pb.HeatMap]:
    """One map of all kinds joined, then one for each finding."""
    region = frame.crop.to_box()
    joined = np.zeros(frame.inside.shape, np.float32)
    maps = []
    for finding in named:
        heat = finding.severity * (finding.heat if finding.heat is not None else frame.inside)
        joined = np.maximum(joined, heat)
        maps.append(heat_map(finding.kind, heat, region, options))
    return [heat_map(pb.DEFECT_KIND_UNSPECIFIED, joined, region, options), *maps]
