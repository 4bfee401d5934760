"""Seam, tone, colour and light: what the excess steps around the border say, against those of its copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.evidence import calibration
from editcritic.server.critics.evidence.border import (
    Border,
    mean_profile,
    profiles,
    reference_profiles,
    side_name,
)
from editcritic.server.critics.evidence.steps import (
    Kernel,
    Steps,
    StepStats,
    fit,
    line_kernel,
    sharp_kernel,
    soft_kernel,
    steps,
)
from editcritic.server.critics.finding import Finding, figure, robust, strongest_box
from editcritic.server.critics.views import Planes, Views
from editcritic.v1 import critic_pb2 as pb

__all__ = ["BorderReference", "border_reference", "judge_border"]

Array = NDArray[np.float64]
Heat = NDArray[np.float32]

PLANES = ("luma", "a", "b")
Z_FLOOR = 0.7
"""Spread of a z-score between undisturbed places, at least."""
LEVEL_FLOOR = 0.5
"""Spread of a step between undisturbed places, at least; in levels or Lab units."""
SOFT_FROM_PX = 1.5
"""A rim narrower than this is a hard mask that was drawn with smooth edges."""
FADE_PX = 5.0
"""Width of a seam in a heat map."""


@dataclass(frozen=True, eq=False)
class BorderReference:
    """The border, the kernels that suit it, and what its copies show in the source.

    Attributes:
        border: its segments.
        fill: the kernel that follows the mask's own rim.
        kernels: all kernels, by a key of their own.
        copies: for each plane and kernel, the statistics of every copy.
    """

    border: Border
    fill: str
    kernels: Mapping[str, Kernel]
    copies: Mapping[tuple[str, str], Sequence[StepStats]]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Planes with their kernels."""
        return [
            (plane, name) for plane in PLANES for name in self.kernels if plane == "luma" or name == self.fill
        ]


@dataclass(frozen=True, eq=False)
class _Seen:
    """Steps of one plane and kernel, their statistics, and the copies'."""

    steps: Steps
    stats: StepStats
    copies: Sequence[StepStats]

    def references(self, name: str) -> Array:
        """(copies,) one statistic, without its sign."""
        return np.array([abs(getattr(copy, name)) for copy in self.copies])

    def z(self, name: str) -> float:
        """By how much the statistic exceeds its copies', in units of their spread, at least 0."""
        references = self.references(name)
        median, spread = robust(references, Z_FLOOR) if references.size else (1.0, 1.0)
        return max(0.0, (abs(float(getattr(self.stats, name))) - median) / spread)

    def figure(self, name: str, value: str, unit: str) -> pb.Measurement:
        """The statistic called `value` as a figure called `name`."""
        size = abs(getattr(self.stats, value))
        return figure(name, size, unit, *robust(self.references(value), LEVEL_FLOOR))


def border_reference(border: Border, views: Views, source: Planes) -> BorderReference:
    """Measure the copies of the border, once for an edit."""
    kernels = {"sharp": sharp_kernel(), "line": line_kernel()}
    fill = "sharp"
    if views.ramp_px >= SOFT_FROM_PX:
        kernels["soft"], fill = soft_kernel(mean_profile(border, views.alpha)), "soft"
    empty = BorderReference(border, fill, kernels, {})
    moved = {plane: reference_profiles(border, getattr(source, plane)) for plane in PLANES}
    copies = {key: _copies(border, moved[key[0]], kernels[key[1]]) for key in empty.keys}
    return BorderReference(border, fill, kernels, copies)


def judge_border(
    reference: BorderReference,
    band: Mapping[str, NDArray[np.float32]],
    views: Views,
    *,
    drawn_from: float = 0.0,
) -> list[Finding]:
    """The four findings of the border.

    Args:
        band: the candidate's planes by name, at the pixels of the border's band only.
        drawn_from: strength under which a finding gets no heat, which costs more than its figures.
    """
    own = {plane: profiles(reference.border, band[plane]) for plane in PLANES}
    seen = {}
    for plane, name in reference.keys:
        found = steps(own[plane], reference.kernels[name])
        stats = fit(found, reference.border)
        seen[plane, name] = _Seen(found, stats, reference.copies[plane, name])
    four = [
        _tone(reference, seen),
        _colour(reference, seen),
        _light(reference, seen),
        _seam(reference, seen),
    ]
    return [
        _drawn(finding, reference, seen, views) if finding.strength >= drawn_from else finding
        for finding in four
    ]


def _drawn(
    finding: Finding, reference: BorderReference, seen: Mapping[tuple[str, str], _Seen], views: Views
) -> Finding:
    """The finding with its heat, and with its place where that is read from the heat."""
    if finding.kind == pb.DEFECT_KIND_SEAM:
        heat = _along(reference.border, _seam_scores(reference, seen), views)
        return replace(finding, heat=heat, box=strongest_box(heat))
    heat = _inside(views)
    if finding.kind == pb.DEFECT_KIND_LIGHT_MISMATCH:
        heat = heat * np.clip(np.abs(views.distance) < 0.5 * float(views.distance.max()), 0.3, 1.0)
    return replace(finding, heat=heat.astype(np.float32))


def _copies(border: Border, moved: Array, kernel: Kernel) -> list[StepStats]:
    if not border.copied.any():
        return []
    found = steps(moved, kernel)
    return [fit(Steps(*pair), border) for pair in zip(found.excess, found.sigma, strict=True)]


def _tone(reference: BorderReference, seen: Mapping[tuple[str, str], _Seen]) -> Finding:
    luma = seen["luma", reference.fill]
    place = "the inside is too light" if luma.stats.common > 0 else "the inside is too dark"
    measured = luma.figure("luma_step", "common", "levels")
    strength = luma.z("common_z") / calibration.TONE_STEP_Z
    return Finding(pb.DEFECT_KIND_TONE_SHIFT, strength, [measured], place=f"({place})")


def _colour(reference: BorderReference, seen: Mapping[tuple[str, str], _Seen]) -> Finding:
    a, b = seen["a", reference.fill], seen["b", reference.fill]
    strength = float(np.hypot(a.z("common_z"), b.z("common_z"))) / calibration.COLOUR_STEP_Z
    size = float(np.hypot(a.stats.common, b.stats.common))
    usual = np.hypot(a.references("common"), b.references("common"))
    measured = figure("colour_step", size, "Lab units", *robust(usual, LEVEL_FLOOR))
    place = f"(the inside is too {_hue(a.stats.common, b.stats.common)})"
    return Finding(pb.DEFECT_KIND_COLOUR_SHIFT, strength, [measured], place=place)


def _light(reference: BorderReference, seen: Mapping[tuple[str, str], _Seen]) -> Finding:
    luma = seen["luma", reference.fill]
    measured = luma.figure("light_step_gradient", "gradient", "levels")
    strength = luma.z("gradient_z") / calibration.LIGHT_STEP_Z
    return Finding(pb.DEFECT_KIND_LIGHT_MISMATCH, strength, [measured])


def _seam(reference: BorderReference, seen: Mapping[tuple[str, str], _Seen]) -> Finding:
    best = _sharpest(reference, seen)
    strength = best.z("single_z") / calibration.SEAM_Z
    measured = best.figure("border_step", "single", "levels")
    place = _sides(reference.border, _seam_scores(reference, seen))
    return Finding(pb.DEFECT_KIND_SEAM, strength, [measured], place=place)


def _sharpest(reference: BorderReference, seen: Mapping[tuple[str, str], _Seen]) -> _Seen:
    """The steps of the kernel that sees most."""
    return max((seen["luma", name] for name in reference.kernels), key=lambda item: item.z("single_z"))


def _seam_scores(reference: BorderReference, seen: Mapping[tuple[str, str], _Seen]) -> Array:
    best = _sharpest(reference, seen)
    return np.asarray(np.nan_to_num(np.abs(best.steps.excess) / best.steps.sigma))


def _sides(border: Border, scores: Array) -> str:
    """Which edges carry the conspicuous segments."""
    top = np.flatnonzero(scores >= 0.6 * scores.max(initial=0.0))
    sides = list(dict.fromkeys(side_name(border.centres[index]) for index in top))
    if len(sides) >= 4 or not sides:
        return "all around the border"
    return f"on the {' and '.join(sides)} edge"


def _along(border: Border, scores: Array, views: Views) -> Heat:
    """Each segment's score, fading with the distance to the border."""
    share = np.append(np.square(scores / max(float(scores.max(initial=0.0)), 1e-9)), 0.0)
    fade = np.exp(-np.square(views.distance / FADE_PX))
    return np.asarray(share[border.segment_map] * fade, np.float32)


def _inside(views: Views) -> Heat:
    return views.inside.astype(np.float32)


def _hue(a: float, b: float) -> str:
    if abs(a) >= abs(b):
        return "red" if a > 0 else "green"
    return "yellow" if b > 0 else "blue"
