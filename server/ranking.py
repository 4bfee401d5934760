"""Orders judged candidates from best to worst and says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from editcritic.server.critics.base import Outcome
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["rank"]

_DIMENSIONS = ("naturalness", "harmony", "preservation", "prompt_alignment")


def rank(candidate_ids: Sequence[str], outcomes: Sequence[Outcome]) -> list[pb.RankedCandidate]:
    """A place for each candidate: judged ones by overall score, then abstentions, then failures.

    Equal scores keep the order in which the candidates came.

    Args:
        candidate_ids: as the client named them.
        outcomes: one for each candidate, in the same order.
    """
    by_id: Mapping[str, Outcome] = dict(zip(candidate_ids, outcomes, strict=True))
    judged = [(name, out) for name, out in by_id.items() if isinstance(out, pb.Critique)]
    scored = [(name, critique) for name, critique in judged if _is_scored(critique)]
    scored.sort(key=lambda pair: -pair[1].scores.overall.value)
    places = {name: place for place, (name, _) in enumerate(scored, start=1)}
    ranking = [
        _entry(name, critique, place=places[name], reason=_reason(critique)) for name, critique in scored
    ]
    ranking += [
        _entry(name, critique, place=0, reason=f"no place: {critique.scores.overall.abstention_detail}")
        for name, critique in judged
        if name not in places
    ]
    ranking += [
        pb.RankedCandidate(candidate_id=name, reason=f"failed: {out.message}", error=out.to_status())
        for name, out in by_id.items()
        if isinstance(out, EditCriticError)
    ]
    return ranking


def _is_scored(critique: pb.Critique) -> bool:
    return critique.scores.overall.status == pb.SCORE_STATUS_SCORED


def _entry(name: str, critique: pb.Critique, *, place: int, reason: str) -> pb.RankedCandidate:
    return pb.RankedCandidate(candidate_id=name, place=place, reason=reason, critique=critique)


def _reason(critique: pb.Critique) -> str:
    figures = ", ".join(
        f"{name.replace('_', ' ')} {score.value:.0f}"
        for name in _DIMENSIONS
        if (score := getattr(critique.scores, name)).status == pb.SCORE_STATUS_SCORED
    )
    gravest = critique.defects[0].explanation if critique.defects else "no fault found"
    return f"overall {critique.scores.overall.value:.0f} ({figures}): {gravest}"
