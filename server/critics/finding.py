"""What a critic finds: how strongly each kind of defect shows, and which score that lowers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.views import Bounds
from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "AT_THRESHOLD",
    "DIMENSION_OF",
    "Finding",
    "figure",
    "robust",
    "severity_of",
    "strength_of",
    "strongest_box",
]

MAX_Z = 99.0
AT_THRESHOLD = 0.3
"""Severity at the threshold from which a finding is called a defect."""
_SHAPE = 3.0
_TAIL = 0.75

_N, _H, _P = pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION

DIMENSION_OF: Mapping[pb.DefectKind.ValueType, pb.Dimension.ValueType] = {
    pb.DEFECT_KIND_OUTSIDE_CHANGED: _P,
    pb.DEFECT_KIND_SEAM: _H,
    pb.DEFECT_KIND_COLOUR_SHIFT: _H,
    pb.DEFECT_KIND_TONE_SHIFT: _H,
    pb.DEFECT_KIND_LIGHT_MISMATCH: _H,
    pb.DEFECT_KIND_SHARPNESS_MISMATCH: _H,
    pb.DEFECT_KIND_NOISE_MISMATCH: _H,
    pb.DEFECT_KIND_COMPRESSION_MISMATCH: _H,
    pb.DEFECT_KIND_OVERSHARPENED: _H,
    pb.DEFECT_KIND_TEXTURE_REPEAT: _N,
    pb.DEFECT_KIND_FLAT_FILL: _N,
    pb.DEFECT_KIND_BLACK_FILL: _N,
    pb.DEFECT_KIND_LEFTOVER: _N,
    pb.DEFECT_KIND_MELTED_TEXTURE: _N,
    pb.DEFECT_KIND_WARPED_GEOMETRY: _N,
    pb.DEFECT_KIND_DUPLICATED_PART: _N,
    pb.DEFECT_KIND_MISSING_PART: _N,
    pb.DEFECT_KIND_FOREIGN_CONTENT: _N,
    pb.DEFECT_KIND_BANDING: _N,
    pb.DEFECT_KIND_UNCHANGED: pb.DIMENSION_PROMPT_ALIGNMENT,
    pb.DEFECT_KIND_PROMPT_MISMATCH: pb.DIMENSION_PROMPT_ALIGNMENT,
}
"""Every kind. An unchanged inside may be natural: it only fails its task."""


@dataclass(frozen=True, eq=False)
class Finding:
    """How strongly one kind of defect shows.

    Attributes:
        kind: the kind.
        strength: 0 for nothing, 1 at the threshold from which it is called a defect; no upper bound.
        evidence: the figures, the decisive one first.
        heat: (h, w) float32 in [0, 1] at the working size, relative to the severity; None for the inside.
        place: where, in words ("on the left edge"); may be empty.
        box: where, in working pixels; None for the whole inside.
        photo_box: where, in pixels of the source; for what lies beyond the crop.
    """

    kind: pb.DefectKind.ValueType
    strength: float
    evidence: Sequence[pb.Measurement]
    heat: NDArray[np.float32] | None = None
    place: str = ""
    box: Bounds | None = None
    photo_box: pb.Box | None = None

    @property
    def severity(self) -> float:
        """From 0 to 1; 0.3 at the threshold."""
        return severity_of(self.strength)


def severity_of(strength: float) -> float:
    """Severity of a strength: strictly rising, 0.3 at strength 1, towards 1 beyond.

    A Hill curve below the threshold, so that figures that every clean photograph has weigh next to nothing;
    above it a slow power, so that no figure saturates and the worse of two bad fills still scores lower.
    """
    strength = max(strength, 0.0)
    if strength > 1.0:
        return 1.0 - (1.0 - AT_THRESHOLD) * float(strength**-_TAIL)
    powered = float(strength**_SHAPE)
    return powered / (powered + (1.0 - AT_THRESHOLD) / AT_THRESHOLD)


def strength_of(severity: float) -> float:
    """The strength that has this severity, in [0, 1): the inverse of `severity_of`."""
    severity = min(max(severity, 0.0), 0.999)
    if severity > AT_THRESHOLD:
        return float(((1.0 - AT_THRESHOLD) / (1.0 - severity)) ** (1 / _TAIL))
    return float((severity / (1.0 - severity) * (1.0 - AT_THRESHOLD) / AT_THRESHOLD) ** (1 / _SHAPE))


def figure(
    name: str, value: float, unit: str, reference: float | None = None, spread: float | None = None
) -> pb.Measurement:
    """A `Measurement`; with a reference and its spread it also gets a z-score."""
    measured = pb.Measurement(name=name, value=float(value), unit=unit)
    if reference is not None and spread is not None:
        measured.reference = float(reference)
        measured.spread = float(spread)
        measured.z_score = float(np.clip((value - reference) / max(spread, 1e-9), -MAX_Z, MAX_Z))
    return measured


def robust(values: NDArray[np.floating], floor: float) -> tuple[float, float]:
    """Median and spread (1.4826 x median absolute deviation, at least `floor`) of reference figures."""
    if values.size == 0:
        return 0.0, floor
    median = float(np.median(values))
    return median, max(float(1.4826 * np.median(np.abs(values - median))), floor)


def strongest_box(heat: NDArray[np.float32], level: float = 0.5) -> Bounds | None:
    """The rectangle around what reaches `level` of the map's peak; None for an empty map."""
    peak = float(heat.max(initial=0.0))
    if peak <= 0:
        return None
    rows, columns = np.nonzero(heat >= level * peak)
    x, y = int(columns.min()), int(rows.min())
    return Bounds(x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1)
