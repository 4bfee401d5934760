"""Outputs of the network as findings: how grave, where, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from editcritic.server.critics.base import CritiqueTask
from editcritic.server.critics.change import largest_change
from editcritic.server.critics.evidence.calibration import OUTSIDE_LEAK, OUTSIDE_LOCAL, UNCHANGED_SHARE
from editcritic.server.critics.evidence.fill import SAME_LEVELS
from editcritic.server.critics.evidence.preservation import Leak, outside_figures
from editcritic.server.critics.finding import (
    AT_THRESHOLD,
    DIMENSION_OF,
    Finding,
    figure,
    strength_of,
    strongest_box,
)
from editcritic.server.critics.network.border import BorderScene, in_view
from editcritic.server.critics.network.calibration import Calibration
from editcritic.server.critics.network.model import KINDS, SCORES, EditOutput
from editcritic.server.critics.network.view import EditView
from editcritic.server.critics.places import place_words
from editcritic.server.critics.views import Bounds
from editcritic.v1 import critic_pb2 as pb

__all__ = ["MEASURED", "edited_region", "join_border", "read_findings"]

Plane = NDArray[np.float32]

MEASURED = frozenset({pb.DEFECT_KIND_OUTSIDE_CHANGED, pb.DEFECT_KIND_UNCHANGED})
"""Kinds that pixels tell exactly; the network's own opinion of them is not asked."""
_FLOORED = {"naturalness": pb.DIMENSION_NATURALNESS, "harmony": pb.DIMENSION_HARMONY}
_NEAR_PX = 6
_LEVELS = 127.5

# Family of `measure_figures`, which of its differences, name, unit and factor to it.
_FIGURE_OF: Mapping[int, tuple[int, int, str, str, float]] = {
    pb.DEFECT_KIND_SEAM: (0, 0, "rim_step", "levels", _LEVELS),
    pb.DEFECT_KIND_TONE_SHIFT: (0, 1, "inside_luma_difference", "levels", _LEVELS),
    pb.DEFECT_KIND_LIGHT_MISMATCH: (0, 1, "inside_luma_difference", "levels", _LEVELS),
    pb.DEFECT_KIND_COLOUR_SHIFT: (1, 1, "inside_red_green_difference", "levels", _LEVELS),
    pb.DEFECT_KIND_SHARPNESS_MISMATCH: (5, 1, "fine_detail_difference", "nepers", 1.5),
    pb.DEFECT_KIND_OVERSHARPENED: (5, 1, "fine_detail_difference", "nepers", 1.5),
    pb.DEFECT_KIND_MELTED_TEXTURE: (5, 1, "fine_detail_difference", "nepers", 1.5),
    pb.DEFECT_KIND_FLAT_FILL: (5, 1, "fine_detail_difference", "nepers", 1.5),
    pb.DEFECT_KIND_NOISE_MISMATCH: (5, 1, "fine_detail_difference", "nepers", 1.5),
    pb.DEFECT_KIND_COMPRESSION_MISMATCH: (3, 1, "grid_step_difference", "levels", _LEVELS / 4),
}


def read_findings(
    output: EditOutput,
    calibration: Calibration,
    view: EditView,
    window: NDArray[np.uint8],
    leak: Leak | None,
    task: CritiqueTask,
) -> list[Finding]:
    """One finding for every kind, named or not.

    Args:
        output: of this candidate, a batch of one.
        window: (S, S, 3) uint8; the candidate as the network saw it.
        leak: what changed outside the mask; None without an outside.
    """
    presence = torch.sigmoid(output.kinds[0]).cpu().numpy()
    severities = {
        kind: calibration.severity(_name(kind), float(presence[i]))
        for i, kind in enumerate(KINDS)
        if kind not in MEASURED
    }
    _blame_low_scores(severities, output, calibration)
    maps = torch.sigmoid(output.maps[0]).cpu().numpy()
    height, width = maps.shape[1:]
    inside = cv2.resize(view.alpha, (width, height), interpolation=cv2.INTER_AREA) >= 0.5
    scene = _Scene(view, inside, output.figures[0].cpu().numpy())
    findings = [
        _learned(kind, severity, presence[KINDS.index(kind)], maps[KINDS.index(kind)], scene)
        for kind, severity in severities.items()
    ]
    findings.append(_unchanged(window, view))
    if leak is not None:
        findings.append(_outside(leak, task, view, window))
    return findings


def join_border(
    findings: Sequence[Finding],
    measured: Mapping[int, Finding],
    scene: BorderScene,
    view: EditView,
    calibration: Calibration,
) -> list[Finding]:
    """The findings, those of the border replaced by what was measured wherever that is the more conspicuous."""
    joined = []
    for finding in findings:
        level = calibration.measured.get(_name(finding.kind))
        other = measured.get(finding.kind)
        if level is None or other is None or other.strength < level:
            joined.append(finding)
            continue
        strength = other.strength / level
        graver = strength > finding.strength
        joined.append(in_view(other, scene, view, strength) if graver else finding)
    return joined


def edited_region(output: EditOutput, view: EditView) -> Plane:
    """(h, w) in [0, 1]: where the network thinks that something was edited, in the photograph's part of the window."""
    return view.within_photo(_enlarged(torch.sigmoid(output.edited[0, 0]).cpu().numpy(), view.side))


def _blame_low_scores(severities: dict[int, float], output: EditOutput, calibration: Calibration) -> None:
    """Where a score is under its floor and nothing is named, its likeliest kind is."""
    if max(severities.values()) >= AT_THRESHOLD:
        return
    low = []
    for score, dimension in _FLOORED.items():
        share = float(torch.sigmoid(output.mean[0, SCORES.index(score)]))
        low.append((calibration.severity_of_low(score, share), dimension))
    severity, dimension = max(low)
    if severity > 0:
        own = [kind for kind in severities if DIMENSION_OF[pb.DefectKind.ValueType(kind)] == dimension]
        severities[max(own, key=lambda kind: severities[kind])] = severity


def _name(kind: int) -> str:
    return pb.DefectKind.Name(pb.DefectKind.ValueType(kind)).removeprefix("DEFECT_KIND_")


class _Scene(NamedTuple):
    """What all kinds are told about: the view, its inside at the maps' size, and the figures."""

    view: EditView
    inside: NDArray[np.bool_]
    measured: Plane


def _learned(kind: int, severity: float, presence: float, small: Plane, scene: _Scene) -> Finding:
    view = scene.view
    strength = strength_of(severity)
    share = float(small[scene.inside].mean()) if scene.inside.any() else 0.0
    evidence = [figure("map_share", share, "fraction"), figure("presence", float(presence), "fraction")]
    if kind in _FIGURE_OF:
        evidence.insert(0, _figure_of(kind, scene.measured))
    if strength < 1.0:
        # Place and map of what will not be named cost more than the network itself.
        return Finding(pb.DefectKind.ValueType(kind), strength, evidence)
    heat = view.within_photo(_enlarged(small, view.side))
    inside = view.within_photo(view.alpha >= 0.5)
    # A map without a peak shows nothing: the whole inside is meant then.
    shown = heat if float(heat.max()) > 0.3 else inside.astype(np.float32)
    return Finding(
        pb.DefectKind.ValueType(kind),
        strength,
        evidence,
        shown / max(float(shown.max()), 1e-6),
        place_words(np.where(shown > 0.2, shown, 0), inside, view.within_photo(_near_border(view))),
        strongest_box(shown),
    )


def _figure_of(kind: int, measured: Plane) -> pb.Measurement:
    family, step, name, unit, factor = _FIGURE_OF[kind]
    core, rim, ring, outside, spread = (float(value) * factor for value in measured[family][:5])
    around = (ring + outside) / 2
    value = abs((rim - ring, core - around)[step])
    # What the photograph's own parts differ by is the reference.
    return figure(name, value, unit, spread, max(spread, 1e-3))


def _unchanged(window: NDArray[np.uint8], view: EditView) -> Finding:
    same = largest_change(window, view.source) <= SAME_LEVELS
    core = view.regions[0] > 0
    share = float(same[core].mean()) if core.any() else 0.0
    heat = view.within_photo((same & (view.alpha >= 0.5)).astype(np.float32))
    evidence = [figure("unchanged_share", share, "fraction")]
    return Finding(pb.DEFECT_KIND_UNCHANGED, share / UNCHANGED_SHARE, evidence, heat)


def _outside(leak: Leak, task: CritiqueTask, view: EditView, window: NDArray[np.uint8]) -> Finding:
    strength = max(leak.mean / OUTSIDE_LEAK, leak.local / OUTSIDE_LOCAL)
    change = largest_change(window, view.source).astype(np.float32)
    outside = view.regions[2:].sum(axis=0) > 0
    heat = cv2.GaussianBlur(np.where(outside, np.maximum(change - 2, 0), 0).astype(np.float32), (0, 0), 2.0)
    height, width = task.edit.denoise_mask.shape
    box = (
        Bounds(0, 0, width, height)
        if leak.changed_share > 0.5 or leak.extent is None
        else _extent(leak.extent)
    )
    return Finding(
        pb.DEFECT_KIND_OUTSIDE_CHANGED,
        strength,
        outside_figures(leak),
        view.within_photo((heat / max(float(heat.max()), 8.0)).astype(np.float32)),
        photo_box=box.to_box(),
    )


def _extent(extent: tuple[int, int, int, int]) -> Bounds:
    top, bottom, left, right = extent
    return Bounds(left, top, right - left + 1, bottom - top + 1)


def _enlarged(small: Plane, side: int) -> Plane:
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _near_border(view: EditView) -> NDArray[np.bool_]:
    inside = (view.alpha >= 0.5).astype(np.uint8)
    kernel = np.ones((2 * _NEAR_PX + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(inside, kernel) != cv2.erode(inside, kernel))
