"""From severities to scores.

A dimension starts at 100 and every defect of it takes its severity's share of what is left, so one grave
fault is never averaged away by nine things in order. Visual quality is the geometric mean of the dimensions
that were scored; overall is visual quality once the edit happened at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "Abstention",
    "Loss",
    "abstained",
    "abstained_as",
    "combine",
    "dimension_score",
    "make_scores",
    "scored",
    "scores_are_sound",
]

CONTROL_STDDEV: Mapping[pb.Dimension.ValueType, float] = {
    pb.DIMENSION_NATURALNESS: 1.5,
    pb.DIMENSION_HARMONY: 4.0,
    pb.DIMENSION_PRESERVATION: 0.5,
}
"""Standard deviation of each score over clean training controls: what chance alone does."""
LEAST = 0.1
"""A zero would make the geometric mean forget everything else."""
MAX_STDDEV = 35.0


@dataclass(frozen=True)
class Loss:
    """What one finding takes from its dimension.

    Attributes:
        severity: in [0, 1].
        uncertainty: standard deviation of the severity.
        weight: how much of the dimension the gravest such fault can take, in [0, 1].
    """

    severity: float
    uncertainty: float
    weight: float = 1.0


@dataclass(frozen=True)
class Abstention:
    """Why a dimension has no number."""

    reason: pb.AbstentionReason.ValueType
    detail: str


def scored(value: float, stddev: float) -> pb.Score:
    """A score with a number."""
    value = float(np.clip(value, 0.0, 100.0))
    return pb.Score(
        value=value, stddev=float(min(max(stddev, 0.0), MAX_STDDEV)), status=pb.SCORE_STATUS_SCORED
    )


def abstained(why: Abstention) -> pb.Score:
    """A score without one."""
    return pb.Score(
        status=pb.SCORE_STATUS_ABSTAINED, abstention_reason=why.reason, abstention_detail=why.detail
    )


def abstained_as(score: pb.Score) -> pb.Score:
    """A copy of a score without a number."""
    copy = pb.Score()
    copy.CopyFrom(score)
    return copy


def dimension_score(dimension: pb.Dimension.ValueType, losses: Sequence[Loss]) -> pb.Score:
    """100 times the product of (1 - weight x severity); the uncertainties are carried through."""
    kept, relative = 1.0, 0.0
    for loss in losses:
        left = max(1.0 - loss.weight * loss.severity, 1e-3)
        kept *= left
        relative += (loss.weight * loss.uncertainty / left) ** 2
    stddev = float(np.hypot(CONTROL_STDDEV.get(dimension, 0.0), 100 * kept * np.sqrt(relative)))
    return scored(100 * kept, stddev)


def combine(scores: Sequence[pb.Score], share: float = 1.0) -> pb.Score | None:
    """Geometric mean of the scores with a number, times `share`; None when there is none."""
    numbers = [score for score in scores if score.status == pb.SCORE_STATUS_SCORED]
    if not numbers:
        return None
    values = np.array([max(score.value, LEAST) for score in numbers])
    spreads = np.array([score.stddev for score in numbers])
    mean = float(np.exp(np.log(values).mean()))
    stddev = mean * float(np.sqrt(np.square(spreads / values).sum())) / len(numbers)
    return scored(mean * share, stddev * share)


def make_scores(
    dimensions: Mapping[pb.Dimension.ValueType, pb.Score], happened: float, alignment: pb.Score
) -> pb.Scores:
    """All scores of a critique.

    Args:
        dimensions: naturalness, harmony and preservation.
        happened: in [0, 1]; how far the edit happened at all.
        alignment: the score of prompt alignment.
    """
    visual_parts = [
        dimensions[pb.DIMENSION_NATURALNESS],
        dimensions[pb.DIMENSION_HARMONY],
        dimensions[pb.DIMENSION_PRESERVATION],
    ]
    nothing = Abstention(visual_parts[0].abstention_reason, "No part of the visual quality could be judged.")
    visual = combine(visual_parts) or abstained(nothing)
    overall = combine([visual, alignment], happened) or abstained(nothing)
    return pb.Scores(
        naturalness=visual_parts[0],
        harmony=visual_parts[1],
        preservation=visual_parts[2],
        visual_quality=visual,
        prompt_alignment=alignment,
        overall=overall,
    )


def scores_are_sound(scores: pb.Scores) -> bool:
    """Whether every score is either a finite number in [0, 100] with a deviation, or an abstention."""
    for _, score in scores.ListFields():
        numbers = (score.value, score.stddev)
        scored = score.status == pb.SCORE_STATUS_SCORED
        if scored != score.HasField("value") or not all(map(math.isfinite, numbers)):
            return False
        if not 0.0 <= score.value <= 100.0 or score.stddev < 0.0:
            return False
    return scores.HasField("overall")
