"""What every critic is: it prepares an edit once, then judges many candidates of it.

The split follows Segment Anything's predictor (set the image once, ask cheaply many times): all that
depends on the source and the mask alone belongs into `Critic.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import tracing
from editcritic.v1.errors import Cancelled, EditCriticError

__all__ = [
    "Critic",
    "CritiqueTask",
    "DecodedCandidate",
    "DecodedEdit",
    "Outcome",
    "check_cancelled",
    "judge_each",
]

Outcome = pb.Critique | EditCriticError
"""What one task came to: a critique, or why there is none."""


@dataclass(frozen=True, eq=False)
class DecodedEdit:
    """An edit as arrays.

    Attributes:
        edit_id: name of the edit.
        source: (H, W, 3) uint8, sRGB.
        denoise_mask: (H, W) float32 in [0, 1]; 1 where the engine was free.
        blend_mask: (H, W) float32 in [0, 1], or None when the denoise mask was used for blending too.
        prompt: what the user asked for; may be empty.
        negative_prompt: what the user asked to avoid; may be empty.
    """

    edit_id: str
    source: NDArray[np.uint8]
    denoise_mask: NDArray[np.float32]
    blend_mask: NDArray[np.float32] | None = None
    prompt: str = ""
    negative_prompt: str = ""

    @property
    def byte_count(self) -> int:
        """Memory that the arrays hold, in bytes."""
        blend = 0 if self.blend_mask is None else self.blend_mask.nbytes
        return int(self.source.nbytes + self.denoise_mask.nbytes + blend)


@dataclass(frozen=True, eq=False)
class DecodedCandidate:
    """A candidate as an array of the whole edit.

    Attributes:
        candidate_id: name of the candidate; may be empty in a unary call.
        image: (H, W, 3) uint8, sRGB, of the source's size; beyond `region` it equals the source.
        region: the part of the picture that was sent; None when all of it was.
        progress: how far denoising has come; None for a finished candidate.
    """

    candidate_id: str
    image: NDArray[np.uint8]
    region: pb.Box | None = None
    progress: pb.DenoisingProgress | None = None


@dataclass(frozen=True, eq=False)
class CritiqueTask:
    """One candidate to judge.

    Attributes:
        edit: the edit that it answers.
        prepared: what `Critic.prepare` made of that edit.
        candidate: the candidate.
        options: which details to send.
        origin: the span that it was made in, for traces.
    """

    edit: DecodedEdit
    prepared: Any
    candidate: DecodedCandidate
    options: pb.CritiqueOptions = field(default_factory=pb.CritiqueOptions)
    origin: Any = field(default_factory=tracing.here)


class Critic(Protocol):
    """Judges candidates in their edit.

    A critic is called from worker threads, several at once, and keeps no state between calls; the same
    task gets the same numbers whatever else is in its batch.
    """

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, meaning of the scores, and what it can judge."""

    def prepare(self, edit: DecodedEdit) -> Any:
        """Whatever depends on the edit alone; handed back in every task of that edit.

        Raises:
            EditCriticError: this edit can never be judged.
        """

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task, in order.

        Args:
            tasks: candidates, of one or of several edits.
            is_cancelled: asked between steps; once true, nobody waits for the answer any more and the
                critic may return early with `Cancelled` for what is left.
        """


def judge_each(
    tasks: Sequence[CritiqueTask],
    judge: Callable[[CritiqueTask], pb.Critique],
    is_cancelled: Callable[[], bool],
) -> list[Outcome]:
    """Judge tasks one by one, for critics whose batches save nothing; an error is that of its own item."""
    outcomes: list[Outcome] = []
    for task in tasks:
        try:
            check_cancelled(is_cancelled)
            outcomes.append(judge(task))
        except EditCriticError as error:
            outcomes.append(error)
    return outcomes


def check_cancelled(is_cancelled: Callable[[], bool]) -> None:
    """Raise `Cancelled` once nobody waits any more."""
    if is_cancelled():
        raise Cancelled("nobody waits for this critique any more")
