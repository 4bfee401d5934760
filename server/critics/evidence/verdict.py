"""From findings to scores: which dimension each kind lowers, how surely, and what a preview can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from editcritic.server.critics.evidence.calibration import UNCHANGED_SHARE
from editcritic.server.critics.evidence.scene import Scene
from editcritic.server.critics.finding import DIMENSION_OF, Finding, severity_of
from editcritic.server.critics.scoring import Abstention, Loss, abstained, dimension_score, make_scores
from editcritic.v1 import critic_pb2 as pb

__all__ = ["judge", "reportable", "trust"]

_N, _H, _P = pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION

SURE_FROM = 0.6
"""Share of the steps from which the predicted image has its texture and its edges."""
LAYOUT_FROM = 0.2
"""Share of the steps from which it has its tones."""
JUDGED_FROM = 0.1
"""Before this it is a blurry mean."""
MIN_INSIDE_PX = 48
MIN_OUTSIDE_PX = 400
STRENGTH_STDDEV = 0.15
"""Relative standard deviation of a strength between masks of the same photograph and fault."""

_ANY_TIME = frozenset({pb.DEFECT_KIND_BLACK_FILL, pb.DEFECT_KIND_UNCHANGED})
_TONAL = frozenset(
    {
        pb.DEFECT_KIND_COLOUR_SHIFT,
        pb.DEFECT_KIND_TONE_SHIFT,
        pb.DEFECT_KIND_LIGHT_MISMATCH,
        pb.DEFECT_KIND_LEFTOVER,
    }
)


def trust(kind: pb.DefectKind.ValueType, progress: float | None) -> float:
    """How far a finding of this kind counts in a preview, in [0, 1]; 1 in a finished candidate."""
    if progress is None or progress >= SURE_FROM or kind in _ANY_TIME:
        return 1.0
    start = LAYOUT_FROM if kind in _TONAL else 0.0
    return float(np.clip((progress - start) / (SURE_FROM - start), 0.0, 1.0) ** 2)


def reportable(finding: Finding, progress: float | None) -> bool:
    """Whether a finding is called a defect: over its threshold, and late enough to be one."""
    sure = progress is None or progress >= SURE_FROM or finding.kind in _ANY_TIME
    return finding.strength >= 1.0 and sure


def judge(scene: Scene, findings: Sequence[Finding], progress: float | None) -> pb.Scores:
    """All scores of a candidate."""
    why_not = _abstentions(scene, progress)
    dimensions = {}
    for dimension in (_N, _H, _P):
        own = [finding for finding in findings if DIMENSION_OF[finding.kind] == dimension]
        losses = [_loss(finding, progress) for finding in own]
        abstention = why_not.get(dimension)
        dimensions[dimension] = abstained(abstention) if abstention else dimension_score(dimension, losses)
    happened = min(
        (_happened(each) for each in findings if each.kind == pb.DEFECT_KIND_UNCHANGED), default=1.0
    )
    alignment = abstained(
        Abstention(pb.ABSTENTION_REASON_NOT_JUDGED, "Measured evidence does not read prompts.")
    )
    return make_scores(dimensions, happened, alignment)


def _happened(unchanged: Finding) -> float:
    """How far the edit happened: 0 for a copy of the source, which must never win by looking untouched."""
    share = min(unchanged.strength * UNCHANGED_SHARE, 1.0)
    return (1.0 - unchanged.severity) * (1.0 - share)


def _loss(finding: Finding, progress: float | None) -> Loss:
    low, high = (severity_of(finding.strength * (1 + sign * STRENGTH_STDDEV)) for sign in (-1, 1))
    sure = trust(finding.kind, progress)
    doubt = (1 - sure) * 0.3
    return Loss(finding.severity * sure, float(np.hypot((high - low) / 2, doubt)))


def _abstentions(scene: Scene, progress: float | None) -> dict[pb.Dimension.ValueType, Abstention]:
    views = scene.views
    found = {}
    inside_px = float(views.inside.sum()) / views.scale**2
    if inside_px < MIN_INSIDE_PX:
        small = Abstention(
            pb.ABSTENTION_REASON_REGION_TOO_SMALL,
            f"The masked region has {inside_px:.0f} pixels; at least {MIN_INSIDE_PX} are needed.",
        )
        found = {_N: small, _H: small}
    if views.outside.sum() < MIN_OUTSIDE_PX or (scene.border is None and scene.detail is None):
        none = Abstention(
            pb.ABSTENTION_REASON_NO_REFERENCE,
            "Too little of the photograph is left outside the mask to compare with.",
        )
        found.setdefault(_H, none)
    if not scene.outside.any():
        found[_P] = Abstention(pb.ABSTENTION_REASON_NO_REFERENCE, "The mask covers the whole photograph.")
    if progress is not None and progress < JUDGED_FROM:
        early = Abstention(
            pb.ABSTENTION_REASON_TOO_EARLY,
            f"After {100 * progress:.0f} % of the steps a preview is a blurry mean.",
        )
        found[_N] = found[_H] = early
    return found
