"""Whether a repaired edit is kept: on strict gain beyond the critic's own doubt, with nothing else getting worse.

This is the guard against reward hacking, so it looks at the critique of the acceptance critic alone, which may be
another one than the critic that the search is steered by.
"""

from __future__ import annotations

from dataclasses import dataclass

from editcritic.v1 import critic_pb2 as pb

__all__ = ["Verdict", "is_better", "lower_bound", "reaches", "scored"]

_GUARDED = {"prompt_alignment": "prompt alignment", "preservation": "preservation"}


@dataclass(frozen=True)
class Verdict:
    """keep: whether the repaired edit replaces the one before. reason: why, in one sentence with figures."""

    keep: bool
    reason: str


def scored(critique: pb.Critique) -> bool:
    """Whether the critic gave an overall score."""
    return critique.scores.overall.status == pb.SCORE_STATUS_SCORED


def lower_bound(critique: pb.Critique) -> float:
    """The overall score less one standard deviation; -1 where the critic abstained, so that it never wins."""
    overall = critique.scores.overall
    return overall.value - overall.stddev if scored(critique) else -1.0


def reaches(critique: pb.Critique, target: float) -> bool:
    """Whether the overall score is at least the target."""
    return scored(critique) and critique.scores.overall.value >= target


def is_better(before: pb.Critique, after: pb.Critique) -> Verdict:
    """Compare a repaired edit with the one that it was made from."""
    if not scored(after):
        return Verdict(False, f"the critic abstained: {after.scores.overall.abstention_detail}")
    gain, doubt = _difference(before.scores.overall, after.scores.overall)
    for field, name in _GUARDED.items():
        old, new = getattr(before.scores, field), getattr(after.scores, field)
        if pb.SCORE_STATUS_SCORED == old.status == new.status:
            change, spread = _difference(old, new)
            if change < -spread - 1e-9:
                return Verdict(False, f"{name} fell from {old.value:.1f} to {new.value:.1f}")
    numbers = f"overall went from {before.scores.overall.value:.1f} to {after.scores.overall.value:.1f}"
    if gain > doubt:
        return Verdict(True, f"{numbers}, a gain beyond the critic's doubt of {doubt:.1f}")
    return Verdict(False, f"{numbers}, which is within the critic's doubt of {doubt:.1f} or worse")


def _difference(before: pb.Score, after: pb.Score) -> tuple[float, float]:
    """Change, and its standard deviation. Both scores rest on the same photograph, so this overstates the doubt."""
    return after.value - before.value, float((before.stddev**2 + after.stddev**2) ** 0.5)
