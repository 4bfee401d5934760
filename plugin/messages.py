"""The requests that both clients send, built in one place."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from editcritic.plugin.pictures import Picture, make_candidate
from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "Candidates",
    "as_candidate",
    "as_candidates",
    "make_options",
    "make_preview",
    "make_verdict",
    "name_candidate",
]

Candidates: TypeAlias = "Mapping[str, Picture] | Sequence[pb.Candidate]"
"""Pictures by name, or candidates that were made before."""


def make_options(
    *,
    critic: str = "",
    heat_map: bool = False,
    max_defects: int = 0,
    budget_s: float | None = None,
    bulk: bool = False,
) -> pb.CritiqueOptions:
    """Which critic, and how much detail; 0 and None leave the server's defaults.

    bulk: nobody looks on; interactive candidates go first.
    """
    return pb.CritiqueOptions(
        critic=critic,
        heat_map=heat_map,
        max_defect_count=max_defects,
        budget_ms=0 if budget_s is None else max(1, round(budget_s * 1000)),
        priority=pb.PRIORITY_BULK if bulk else pb.PRIORITY_INTERACTIVE,
    )


def as_candidate(candidate: Picture | pb.Candidate, candidate_id: str = "") -> pb.Candidate:
    """A candidate from a picture, or the candidate itself.

    Raises:
        ImageError: a file cannot be read, or an array is no picture.
    """
    if isinstance(candidate, pb.Candidate):
        return candidate
    return make_candidate(candidate, candidate_id)


def as_candidates(candidates: Candidates) -> list[pb.Candidate]:
    """The candidates of a ranking.

    Raises:
        ImageError: a file cannot be read, or an array is no picture.
    """
    if isinstance(candidates, Mapping):
        return [make_candidate(picture, name) for name, picture in candidates.items()]
    return list(candidates)


def make_preview(
    candidate: pb.Candidate,
    fraction: float,
    step: int = 0,
    step_count: int = 0,
    sigma: float | None = None,
    engine: str | None = None,
) -> pb.CritiqueStreamRequest:
    """A preview on a stream; `fraction` is the share of the executed steps that are done, in (0, 1]."""
    progress = pb.DenoisingProgress(
        fraction=fraction, step=step, step_count=step_count, sigma=sigma, engine=engine
    )
    return pb.CritiqueStreamRequest(preview=pb.Preview(candidate=candidate, progress=progress))


def make_verdict(
    edit_id: str,
    candidate_id: str,
    kind: pb.VerdictKind.ValueType,
    *,
    rating: float | None = None,
    comment: str = "",
    critique: pb.Critique | None = None,
    others: Sequence[str] = (),
    verdict_id: str = "",
) -> pb.RecordVerdictRequest:
    """What the person did with a candidate; the name of the verdict is made when none is given."""
    return pb.RecordVerdictRequest(
        verdict_id=verdict_id or uuid.uuid4().hex,
        edit_id=edit_id,
        candidate_id=candidate_id,
        kind=kind,
        rating=rating,
        comment=comment,
        critique=critique,
        other_candidate_ids=others,
    )


def name_candidate(
    candidate_id: str, picture: Picture | pb.Candidate, details: dict[str, Any]
) -> pb.Candidate:
    """A candidate under a name; `details` are region, seed and encoding, see `make_candidate`."""
    if isinstance(picture, pb.Candidate):
        named = pb.Candidate()
        named.CopyFrom(picture)
        named.candidate_id = candidate_id
        return named
    return make_candidate(picture, candidate_id, **details)
