"""Lessons from people's opinions, where the user has such a set: EPAIQA-15K's layout, or any other with an opinion."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.multimodal.levels import LEVELS
from editcritic.server.critics.multimodal.questions import BEGIN, rating_question
from editcritic.server.critics.multimodal.showing import show, show_candidate
from editcritic.server.training.instruction.lessons import GROUNDING_QUESTION, Lesson, thousandths
from editcritic.server.training.suites.opinion import OpinionRow
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_file, decode_mask_file

__all__ = ["opinion_lessons"]

_LEAST_ROWS = len(LEVELS)


def opinion_lessons(rows: Sequence[OpinionRow], stage: str) -> list[Callable[[], Lesson]]:
    """Lessons that read their pictures when they are called; none for explanations, which such sets do not hold.

    The words are fifths of the table's opinions, the best fifth "excellent": a set's own scale does not matter.
    """
    if stage == "grounding":
        return [partial(_grounding, row) for row in rows if row.source and row.mask]
    if stage != "scoring" or len(rows) < _LEAST_ROWS:
        return []
    ranks = np.argsort(np.argsort([-row.opinion for row in rows], kind="stable"))
    levels = [LEVELS[int(rank * len(LEVELS) / len(rows))] for rank in ranks]
    return [partial(_scoring, row, level) for row, level in zip(rows, levels, strict=True)]


def _grounding(row: OpinionRow) -> Lesson:
    edited, source, mask = _read(row)
    return Lesson([source, edited], GROUNDING_QUESTION, json.dumps({"box": thousandths(mask >= 0.5)}))


def _scoring(row: OpinionRow, level: str) -> Lesson:
    edited, source, mask = _read(row)
    pictures = show_candidate(show(DecodedEdit("lesson", source, mask)), edited)
    return Lesson(pictures, rating_question(pb.DIMENSION_NATURALNESS), level, BEGIN)


def _read(row: OpinionRow) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    edited = decode_file(row.image.read_bytes())
    source = decode_file(row.source.read_bytes()) if row.source else np.full_like(edited, 128)
    mask = decode_mask_file(row.mask.read_bytes()) if row.mask else np.ones(edited.shape[:2], np.float32)
    return edited, source, mask
