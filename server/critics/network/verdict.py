"""Scores of the network critic, and what a preview can tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.evidence.calibration import UNCHANGED_SHARE
from editcritic.server.critics.evidence.fill import happened_share
from editcritic.server.critics.finding import Finding
from editcritic.server.critics.network.calibration import Calibration
from editcritic.server.critics.network.forecast import FORECAST, PreviewReaders
from editcritic.server.critics.network.model import SCORES, EditOutput
from editcritic.server.critics.network.view import EditView
from editcritic.server.critics.scoring import (
    Abstention,
    Loss,
    abstained,
    dimension_score,
    make_scores,
    scored,
)
from editcritic.v1 import critic_pb2 as pb

__all__ = ["foresee", "judge", "reportable"]

JUDGED_FROM = 0.1
"""Before this share of the steps a preview is a blurry mean."""
NAMED_FROM = 0.6
"""Before this no fault of texture is called one."""
MIN_INSIDE_PX = 48
MIN_OUTSIDE_PX = 400
_ANY_TIME = frozenset({pb.DEFECT_KIND_BLACK_FILL, pb.DEFECT_KIND_UNCHANGED, pb.DEFECT_KIND_PROMPT_MISMATCH})


def reportable(finding: Finding, progress: float | None) -> bool:
    """Whether a finding is called a defect: over its threshold, and late enough to be one."""
    sure = progress is None or progress >= NAMED_FROM or finding.kind in _ANY_TIME
    return finding.strength >= 1.0 and sure


def judge(
    output: EditOutput,
    calibration: Calibration,
    view: EditView,
    outside: NDArray[np.bool_],
    findings: Sequence[Finding],
    alignment: pb.Score,
    progress: float | None,
) -> pb.Scores:
    """All scores: naturalness and harmony learned, preservation and "the edit happened" measured."""
    why_not = _abstentions(view, outside, progress)
    dimensions = {}
    for dimension, name in (
        (pb.DIMENSION_NATURALNESS, "naturalness"),
        (pb.DIMENSION_HARMONY, "harmony"),
    ):
        place = SCORES.index(name)
        mean, variance = float(output.mean[0, place]), float(output.log_variance[0, place].exp())
        why = why_not.get(dimension)
        dimensions[dimension] = (
            abstained(why) if why else scored(*calibration.curves[name].score(mean, variance))
        )
    dimensions[pb.DIMENSION_PRESERVATION] = _preservation(findings, why_not)
    return make_scores(dimensions, _happened(findings), alignment)


def foresee(
    scores: pb.Scores,
    readers: PreviewReaders,
    features: NDArray[np.float64],
    share: float,
    findings: Sequence[Finding],
) -> pb.Scores:
    """A preview's scores as they are forecast for the finished candidate; what was not judged stays so."""
    named = [*(getattr(scores, name) for name in FORECAST), scores.prompt_alignment]
    present = np.array([[each.value, each.stddev] for each in named])
    expected = [scored(*pair) for pair in readers.forecast(features, share, present).tolist()]
    naturalness, harmony, alignment = (
        new if old.status == pb.SCORE_STATUS_SCORED else old for old, new in zip(named, expected, strict=True)
    )
    dimensions = {
        pb.DIMENSION_NATURALNESS: naturalness,
        pb.DIMENSION_HARMONY: harmony,
        pb.DIMENSION_PRESERVATION: scores.preservation,
    }
    return make_scores(dimensions, _happened(findings), alignment)


def _preservation(findings: Sequence[Finding], why_not: dict[pb.Dimension.ValueType, Abstention]) -> pb.Score:
    why = why_not.get(pb.DIMENSION_PRESERVATION)
    if why:
        return abstained(why)
    leaks = [each for each in findings if each.kind == pb.DEFECT_KIND_OUTSIDE_CHANGED]
    return dimension_score(pb.DIMENSION_PRESERVATION, [Loss(each.severity, 0.0) for each in leaks])


def _happened(findings: Sequence[Finding]) -> float:
    """How far the edit happened: 0 for a copy of the source, which must never win by looking untouched."""
    for each in findings:
        if each.kind == pb.DEFECT_KIND_UNCHANGED:
            return happened_share(min(each.strength * UNCHANGED_SHARE, 1.0))
    return 1.0


def _abstentions(
    view: EditView, outside: NDArray[np.bool_], progress: float | None
) -> dict[pb.Dimension.ValueType, Abstention]:
    found: dict[pb.Dimension.ValueType, Abstention] = {}
    looks = (pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY)
    scale = view.side / view.window.width
    inside_px = float((view.alpha >= 0.5).sum()) / scale**2
    if view.regions[2:].sum() < MIN_OUTSIDE_PX:
        none = Abstention(
            pb.ABSTENTION_REASON_NO_REFERENCE,
            "Too little of the photograph is left outside the mask to compare with.",
        )
        found[pb.DIMENSION_HARMONY] = none
    if inside_px < MIN_INSIDE_PX:
        small = Abstention(
            pb.ABSTENTION_REASON_REGION_TOO_SMALL,
            f"The masked region has {inside_px:.0f} pixels; at least {MIN_INSIDE_PX} are needed.",
        )
        found |= dict.fromkeys(looks, small)
    if not outside.any():
        found[pb.DIMENSION_PRESERVATION] = Abstention(
            pb.ABSTENTION_REASON_NO_REFERENCE, "The mask covers the whole photograph."
        )
    if progress is not None and progress < JUDGED_FROM:
        early = Abstention(
            pb.ABSTENTION_REASON_TOO_EARLY,
            f"After {100 * progress:.0f} % of the steps a preview is a blurry mean.",
        )
        found |= dict.fromkeys(looks, early)
    return found
