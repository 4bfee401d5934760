"""Questions with right answers, from groups whose faults were put in: find the edit, rate it, explain it.

Source: the order grounding, scoring, explanation is EPAIQA's (2025); its questions and losses are not published, so
these are ours, and the very ones that the `multimodal` critic asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.explain import KIND_WORDS
from editcritic.server.critics.multimodal.levels import LEVELS
from editcritic.server.critics.multimodal.questions import (
    BEGIN,
    CLAIMED_KINDS,
    fault_question,
    rating_question,
)
from editcritic.server.critics.multimodal.showing import Showing, show, show_candidate
from editcritic.server.critics.views import mask_box
from editcritic.server.training.batches import labels_of
from editcritic.server.training.defects import INJECTIONS
from editcritic.server.training.pairs import Group
from editcritic.v1 import critic_pb2 as pb

__all__ = ["GROUNDING_QUESTION", "STAGES", "Lesson", "lessons_of", "thousandths"]

STAGES = ("grounding", "scoring", "explanation")
GROUNDING_QUESTION = (
    "Picture 1 is a photograph before an edit, picture 2 after it. Where was it edited? Answer with JSON only:"
    ' {"box": [left, top, right, bottom]}, in thousandths of the picture.'
)
_RATED: Mapping[pb.Dimension.ValueType, int] = {pb.DIMENSION_NATURALNESS: 0, pb.DIMENSION_HARMONY: 1}
_SCALE = 1000


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is shown, asked, and rightly answered.

    Attributes:
        pictures: each (h, w, 3) uint8.
        begin: how the answer begins; it is given, not learned.
    """

    pictures: Sequence[NDArray[np.uint8]]
    question: str
    answer: str
    begin: str = ""


def lessons_of(group: Group, stage: str) -> list[Lesson]:
    """The lessons of one group; those of kinds that are measured and not asked for are left out."""
    showing = show(DecodedEdit("lesson", group.source, group.alpha))
    known = [place for place, name in enumerate(group.injected) if _asked_for(name)]
    if stage == "grounding":
        box = json.dumps({"box": thousandths(group.alpha >= 0.5)})
        return [Lesson([group.source, group.candidates[i]], GROUNDING_QUESTION, box) for i in known]
    if stage == "scoring":
        return [lesson for place in known for lesson in _ratings(group, place, showing)]
    return [_explanation(group, place, showing) for place in known]


def _asked_for(name: str) -> bool:
    return not name or INJECTIONS[name].kinds[0] in CLAIMED_KINDS


def _ratings(group: Group, place: int, showing: Showing) -> list[Lesson]:
    labels, pictures = labels_of(group.injected[place]), show_candidate(showing, group.candidates[place])
    lessons = []
    for dimension, score in _RATED.items():
        severity = float(group.severities[place]) * float(labels.touched[score])
        level = LEVELS[round(severity * (len(LEVELS) - 1))] if severity else LEVELS[0]
        lessons.append(Lesson(pictures, rating_question(dimension), level, BEGIN))
    return lessons


def _explanation(group: Group, place: int, showing: Showing) -> Lesson:
    name, faults = group.injected[place], []
    crop = showing.crop
    injured = group.injured[place][crop.slices]
    if name and injured.any():
        kind = INJECTIONS[name].kinds[0]
        faults.append(
            {
                "kind": pb.DefectKind.Name(kind).removeprefix("DEFECT_KIND_"),
                "box": thousandths(injured),
                "why": KIND_WORDS[kind],
            }
        )
    pictures = show_candidate(showing, group.candidates[place])
    return Lesson(pictures, fault_question(), json.dumps({"faults": faults}))


def thousandths(plane: NDArray[np.bool_]) -> list[int]:
    """Left, top, right and bottom of what is set, in thousandths of the plane."""
    box = mask_box(plane.astype(np.float32))
    height, width = plane.shape
    edges = (box.x / width, box.y / height, (box.x + box.width) / width, (box.y + box.height) / height)
    return [round(_SCALE * edge) for edge in edges]
