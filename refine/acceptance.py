"""Whether a repaired edit is kept: on strict gain beyond the critic's own doubt, with nothing else getting worse.

This is the guard against reward hacking: a critic that has no part in the search has to agree, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

from editcritic.v1 import critic_pb2 as pb

__all__ = ["Verdict", "both_agree", "is_better", "is_worse", "lower_bound", "reaches", "scored"]

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
    """Compare a repaired edit with the one that it was made from, by one critic."""
    fallen = _what_fell(before, after)
    if fallen:
        return Verdict(False, fallen)
    gain, doubt = _difference(before.scores.overall, after.scores.overall)
    if gain > doubt:
        return Verdict(True, f"{_told(before, after)}, a gain beyond the critic's doubt of {doubt:.1f}")
    return Verdict(
        False, f"{_told(before, after)}, which is within the critic's doubt of {doubt:.1f} or worse"
    )


def both_agree(search: tuple[pb.Critique, pb.Critique], held_out: tuple[pb.Critique, pb.Critique]) -> Verdict:
    """Compare by two critics, each with its critiques before and after: one has to see a gain beyond its doubt, and for
    neither may the score fall at all."""
    for before, after in (search, held_out):
        fallen = _what_fell(before, after) or is_worse(before, after)
        if fallen:
            return Verdict(False, f"by {after.critic.name}: {fallen}")
    verdicts = [is_better(*search), is_better(*held_out)]
    kept = next((verdict for verdict in verdicts if verdict.keep), verdicts[0])
    return Verdict(
        kept.keep, f"{kept.reason}; {held_out[1].critic.name} agrees" if kept.keep else kept.reason
    )


def is_worse(before: pb.Critique, after: pb.Critique) -> str:
    """Why an edit must not take the place of another, in a sentence; empty when it may. A critic that abstained on the
    first has no say."""
    if not scored(before):
        return ""
    if not scored(after):
        return f"the critic abstained: {after.scores.overall.abstention_detail}"
    return _told(before, after) if after.scores.overall.value < before.scores.overall.value else ""


def _what_fell(before: pb.Critique, after: pb.Critique) -> str:
    if not scored(after):
        return f"the critic abstained: {after.scores.overall.abstention_detail}"
    for field, name in _GUARDED.items():
        old, new = getattr(before.scores, field), getattr(after.scores, field)
        if pb.SCORE_STATUS_SCORED == old.status == new.status:
            change, spread = _difference(old, new)
            if change < -spread - 1e-9:
                return f"{name} fell from {old.value:.1f} to {new.value:.1f}"
    return ""


def _told(before: pb.Critique, after: pb.Critique) -> str:
    return f"overall went from {before.scores.overall.value:.1f} to {after.scores.overall.value:.1f}"


def _difference(before: pb.Score, after: pb.Score) -> tuple[float, float]:
    """Change, and its standard deviation. Both scores rest on the same photograph, so this overstates the doubt."""
    return after.value - before.value, float((before.stddev**2 + after.stddev**2) ** 0.5)
