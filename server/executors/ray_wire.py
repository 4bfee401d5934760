"""What goes between a front and the replicas of a critic: pixels as arrays, all else as messages of the contract.

An edit is put into Ray's object store once; its candidates carry its key and their own pixels alone. Every task has a
name of its own that its answer has to bear, so that an answer can never reach another caller.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from google.rpc import status_pb2
from numpy.typing import NDArray

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, error_from_status

__all__ = ["WIRE_REVISION", "RemoteEdit", "Reply", "SentTask", "error_of", "told", "understood"]

WIRE_REVISION = 1
"""Fronts and replicas of the same revision understand each other."""

Reply = tuple[str, bool, bytes]
"""Name of the task, whether it was judged, and the critique or the status."""


@dataclass(frozen=True, eq=False)
class RemoteEdit:
    """What a front keeps of a prepared edit; the replicas keep what the critic made of it.

    Attributes:
        held: Ray's reference to the edit's arrays; they stay as long as it does.
        nbytes: memory that they take.
        key: names the edit among all fronts.
    """

    held: Any
    nbytes: int
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, eq=False)
class SentTask:
    """A `CritiqueTask` on its way.

    Attributes:
        name: that the answer has to bear.
        edit_key: of the prepared edit. edit_id: its caller's name for it.
        candidate_id: the caller's name for the candidate.
        pixels: of `region`, or of the whole edit.
        region, progress, options: serialized; None where there is none.
    """

    name: str
    edit_key: str
    edit_id: str
    candidate_id: str
    pixels: NDArray[np.uint8]
    region: bytes | None
    progress: bytes | None
    options: bytes

    @classmethod
    def of(cls, task: CritiqueTask) -> SentTask:
        """A task under a new name; beyond its region a candidate is the source, which is there already."""
        candidate = task.candidate
        return cls(
            uuid.uuid4().hex,
            task.prepared.key,
            task.edit.edit_id,
            candidate.candidate_id,
            _part(candidate.image, candidate.region),
            None if candidate.region is None else candidate.region.SerializeToString(),
            None if candidate.progress is None else candidate.progress.SerializeToString(),
            task.options.SerializeToString(),
        )

    def task(self, edit: DecodedEdit, prepared: Any) -> CritiqueTask:
        """The task again.

        Args:
            edit: of `edit_key`, nameless.
            prepared: what the critic made of it.
        """
        region = None if self.region is None else pb.Box.FromString(self.region)
        progress = None if self.progress is None else pb.DenoisingProgress.FromString(self.progress)
        # Copies: what Ray hands out lies in shared memory and must not be written to.
        image = edit.source.copy()
        _part(image, region)[...] = self.pixels
        candidate = DecodedCandidate(self.candidate_id, image, region, progress)
        options = pb.CritiqueOptions.FromString(self.options)
        return CritiqueTask(replace(edit, edit_id=self.edit_id), prepared, candidate, options, origin=None)


def told(name: str, outcome: Outcome) -> Reply:
    """What a replica answers for a task."""
    if isinstance(outcome, EditCriticError):
        return name, False, outcome.to_status().SerializeToString()
    return name, True, outcome.SerializeToString()


def understood(tasks: Sequence[SentTask], replies: Sequence[Reply]) -> list[Outcome] | None:
    """The outcomes in the order of the tasks; None when the answers are not those to exactly these tasks."""
    by_name = {name: _outcome(is_judged, data) for name, is_judged, data in replies}
    if len(replies) != len(tasks) or by_name.keys() != {task.name for task in tasks}:
        return None
    return [by_name[task.name] for task in tasks]


def _outcome(is_judged: bool, data: bytes) -> Outcome:
    return pb.Critique.FromString(data) if is_judged else error_of(data)


def error_of(data: bytes) -> EditCriticError:
    """The error of a serialized `google.rpc.Status`."""
    return error_from_status(status_pb2.Status.FromString(data))


def _part(image: NDArray[np.uint8], region: pb.Box | None) -> NDArray[np.uint8]:
    if region is None:
        return image
    return image[region.y : region.y + region.height, region.x : region.x + region.width]
