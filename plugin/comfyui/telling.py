"""Critiques in words and figures: what nodes show, send and hand on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.overlay import heat_of
from editcritic.v1 import critic_pb2 as pb

from .judging import Outcome

__all__ = [
    "NO_SCORE",
    "Critiques",
    "as_json",
    "by_rank",
    "defect_mask",
    "facts",
    "kind_of",
    "reason_of",
    "score_of",
    "summary",
]

NO_SCORE = -1.0
"""Stands for a score where the critic abstained or failed; a number output cannot be empty."""

_SCORES = tuple(field.name for field in pb.Scores.DESCRIPTOR.fields)


@dataclass(frozen=True)
class Critiques:
    """What a Critique Inpaint node hands on: one outcome for each picture, in their order."""

    outcomes: tuple[Outcome, ...]


def score_of(outcome: Outcome) -> float:
    """Overall score, 0 to 100; `NO_SCORE` without one."""
    if not isinstance(outcome, pb.Critique) or outcome.scores.overall.status != pb.SCORE_STATUS_SCORED:
        return NO_SCORE
    return float(outcome.scores.overall.value)


def reason_of(outcome: Outcome) -> str:
    """The verdict in plain sentences, or why there is none."""
    if not isinstance(outcome, pb.Critique):
        return f"not judged: {outcome}"
    if score_of(outcome) == NO_SCORE:
        return f"no score: {outcome.scores.overall.abstention_detail}"
    gravest = outcome.defects[0].explanation if outcome.defects else "no fault found"
    return outcome.explanation or gravest


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each picture, as a text output shows it."""
    return "\n".join(f"{index}: {_figure(each)} {reason_of(each)}" for index, each in enumerate(outcomes))


def _figure(outcome: Outcome) -> str:
    score = score_of(outcome)
    return "-" if score == NO_SCORE else f"{score:.0f}/100"


def by_rank(outcomes: Sequence[Outcome]) -> list[int]:
    """Indices from best to worst; whoever has no score stands last. Equal ones keep their order."""
    return sorted(range(len(outcomes)), key=lambda index: -score_of(outcomes[index]))


def facts(outcome: Outcome) -> dict[str, Any]:
    """A critique as plain data, for events, text outputs and the PNG."""
    if not isinstance(outcome, pb.Critique):
        return {"score": None, "reason": reason_of(outcome), "error": str(outcome)}
    return {
        "score": None if score_of(outcome) == NO_SCORE else round(score_of(outcome), 2),
        "doubt": round(outcome.scores.overall.stddev, 2),
        "reason": reason_of(outcome),
        "scores": {name: _number(getattr(outcome.scores, name)) for name in _SCORES},
        "defects": [_defect(each) for each in outcome.defects],
        "critic": " ".join([outcome.critic.name, outcome.critic.version]),
    }


def as_json(value: Any) -> str:
    """Data as text that people can read too."""
    return json.dumps(value, ensure_ascii=False, indent=1)


def _number(score: pb.Score) -> float | None:
    return round(score.value, 2) if score.status == pb.SCORE_STATUS_SCORED else None


def _defect(defect: pb.Defect) -> dict[str, Any]:
    box = defect.box
    return {
        "kind": kind_of(defect),
        "severity": round(defect.severity, 3),
        "box": [box.x, box.y, box.width, box.height],
        "reason": defect.explanation,
    }


def kind_of(defect: pb.Defect) -> str:
    """Its kind in words: "seam", "colour shift"."""
    return pb.DefectKind.Name(defect.kind).removeprefix("DEFECT_KIND_").lower().replace("_", " ")


def defect_mask(outcome: Outcome, size: tuple[int, int], severity: float) -> NDArray[np.float32]:
    """Where faults of at least that severity are, (H, W): 1 there, 0 elsewhere. By the map where there is one, else by
    the boxes."""
    mask = np.zeros(size, np.float32)
    if not isinstance(outcome, pb.Critique):
        return mask
    if outcome.heat_maps:
        return (heat_of(outcome.heat_maps[0], size) >= severity).astype(np.float32)
    for defect in outcome.defects:
        if defect.severity >= severity:
            mask[_place(defect.box)] = 1
    return mask


def _place(box: pb.Box) -> tuple[slice, slice]:
    return slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)
