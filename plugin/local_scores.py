"""Scores of a finished answer by a critic in this process, for measurements that need no server."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.v1 import critic_pb2 as pb

__all__ = ["local_scores", "value_of"]


def local_scores(
    critic: Any,
    source: NDArray[np.uint8],
    masks: tuple[NDArray[np.float32], NDArray[np.float32]],
    picture: NDArray[np.uint8],
    prompt: str = "",
) -> pb.Scores:
    """All scores of an answer (H, W, 3). critic: as `load_critic` gives it. masks: denoise and blend, (H, W).

    Raises: EditCriticError when the critic refuses it.
    """
    edit = DecodedEdit("answer", source, *masks, prompt)
    options = pb.CritiqueOptions(heat_map=False)
    task = CritiqueTask(edit, critic.prepare(edit), DecodedCandidate("answer", picture), options)
    (critique,) = critic.critique([task], lambda: False)
    if not isinstance(critique, pb.Critique):
        raise critique
    return critique.scores


def value_of(score: pb.Score) -> float:
    """0 to 100; nan where the critic abstains."""
    return score.value if score.status == pb.SCORE_STATUS_SCORED else float("nan")
