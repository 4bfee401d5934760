"""Asking the critic: a whole batch over one call, or one candidate after the other for the loop.

Whatever waits here looks for an interrupt every 50 ms; leaving the stream ends the work at the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.client import Client, CritiqueStream, make_candidate, make_edit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded, EditCriticError, ImageError, Overloaded, error_from_status

from . import host
from .addresses import opened
from .tensors import pick, read_images, read_masks, shared_length

__all__ = ["Batch", "Outcome", "StreamCritic", "StreamJudge", "judge", "read_batch"]

Outcome = pb.Critique | EditCriticError
"""What came of one candidate."""

_ANSWER_S = 300.0


@dataclass(frozen=True)
class Batch:
    """Edited pictures with what they were made from.

    sources, edited: (H, W, 3) uint8. masks, blends: (H, W) in [0, 1]; blends may be empty. Each of length 1 or N.
    """

    sources: list[NDArray[np.uint8]]
    masks: list[NDArray[np.float32]]
    edited: list[NDArray[np.uint8]]
    blends: list[NDArray[np.float32]]
    prompt: str

    def groups(self) -> list[list[int]]:
        """Indices by edit: all in one where source and mask are of 1, else each for itself."""
        alone = len(self.sources) == len(self.masks) == 1 and len(self.blends) <= 1
        indices = list(range(len(self.edited)))
        return [indices] if alone else [[index] for index in indices]

    def edit(self, index: int) -> pb.Edit:
        """What was asked for, of one index."""
        blend = pick(self.blends, index) if self.blends else None
        source, mask = pick(self.sources, index), pick(self.masks, index)
        return make_edit(source, mask, self.prompt, blend_mask=blend)


def read_batch(source: Any, mask: Any, edited: Any, prompt: str, blend_mask: Any = None) -> Batch:
    """Inputs of a node as a batch. Raises: ImageError when batches or sizes do not fit, or a mask is empty."""
    sources, pictures = read_images(source), read_images(edited)
    sizes = [each.shape[:2] for each in sources]
    masks = read_masks(mask, sizes)
    blends = [] if blend_mask is None else read_masks(blend_mask, sizes, "blend_mask")
    lengths = {"source": len(sources), "mask": len(masks), "edited": len(pictures)}
    count = shared_length(lengths | ({"blend_mask": len(blends)} if blends else {}))
    if len(pictures) < count:
        raise ImageError(
            f"there is one edited picture for {count} sources or masks; connect the batch of {count}."
        )
    return Batch(sources, masks, pictures, blends, prompt)


def judge(
    client: Client, batch: Batch, on_outcome: Callable[[int, Outcome], object], **options: Any
) -> list[Outcome]:
    """Judge every picture of a batch: one call for all that have source and mask in common.

    on_outcome: told of each as it comes. options: critic, heat_map, max_defects.
    Raises: EditCriticError when an edit is refused or the server is gone; ComfyUI's own when the run is cancelled.
    """
    found: dict[int, Outcome] = {}
    for indices in batch.groups():
        for index, outcome in _judge_edit(client, batch, indices, options):
            found[index] = outcome
            on_outcome(index, outcome)
    return [found[index] for index in range(len(batch.edited))]


def _judge_edit(
    client: Client, batch: Batch, indices: Sequence[int], options: dict[str, Any]
) -> Iterator[tuple[int, Outcome]]:
    with opened(client, batch.edit(indices[0]), **options) as stream:
        for index in indices:
            stream.candidate(str(index), make_candidate(batch.edited[index]))
        waiting, since = set(indices), time.monotonic()
        while waiting:
            for name, outcome in _news(stream, since):
                waiting.discard(int(name))
                since = time.monotonic()
                yield int(name), outcome


def _news(stream: CritiqueStream, since: float) -> Iterator[tuple[str, Outcome]]:
    """What has come within a moment."""
    host.check_interrupted()
    if time.monotonic() - since > _ANSWER_S:
        raise DeadlineExceeded(f"the critic has not answered for {_ANSWER_S:.0f} s")
    for event in stream.events(host.POLL_S):
        if event.HasField("critique"):
            yield event.critique.candidate_id, event.critique
        elif event.HasField("candidate_error"):
            failed = event.candidate_error
            yield failed.candidate_id, error_from_status(failed.status)
        elif event.HasField("dropped"):
            reason = pb.DropReason.Name(event.dropped.reason)
            yield event.dropped.candidate_id, Overloaded(f"the server did not judge it: {reason}")
        host.check_interrupted()


class StreamJudge:
    """An edit that is open at a server. See `editcritic.refine.critic.EditJudge`."""

    def __init__(self, stream: CritiqueStream) -> None:
        self._stream, self.identity = stream, stream.opened.critic

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        """Send it and wait for its answer. Raises: EditCriticError; ComfyUI's own when the run is cancelled."""
        name = candidate.candidate_id
        if progress is None:
            self._stream.candidate(name, candidate)
        else:
            self._stream.preview(name, candidate, progress.fraction, step=progress.step)
        since = time.monotonic()
        while True:
            for told, outcome in _news(self._stream, since):
                if told == name and isinstance(outcome, pb.Critique):
                    return outcome
                if told == name and isinstance(outcome, EditCriticError):
                    raise outcome


class StreamCritic:
    """A critic at a server, for the loop. critic: its name; empty for the server's first."""

    def __init__(self, client: Client, critic: str = "") -> None:
        self._client, self._critic = client, critic

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[StreamJudge]:
        """Open an edit. Raises: EditCriticError when it is refused or there is no server."""
        with opened(self._client, edit, critic=self._critic, heat_map=True) as stream:
            yield StreamJudge(stream)
