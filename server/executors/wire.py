"""Edits, candidates and outcomes as frames between the server and a critic's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.rpc import status_pb2

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.executors.frames import Frame, Part, array_of, bytes_of, shape_of
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, error_from_status

__all__ = [
    "edit_frame",
    "failure",
    "outcomes_frame",
    "raise_failure",
    "read_edit",
    "read_outcomes",
    "read_tasks",
    "tasks_frame",
]

_ARRAYS = ("source", "denoise_mask", "blend_mask")
_TEXTS = ("edit_id", "prompt", "negative_prompt")


def edit_frame(number: int, edit_number: int, edit: DecodedEdit) -> Frame:
    """An edit to prepare and keep as `edit_number`."""
    arrays = {name: array for name in _ARRAYS if (array := getattr(edit, name)) is not None}
    told = {
        "edit": edit_number,
        "texts": {name: getattr(edit, name) for name in _TEXTS},
        "arrays": {name: shape_of(array) for name, array in arrays.items()},
    }
    return Frame("prepare", number, told, [bytes_of(array) for array in arrays.values()])


def read_edit(frame: Frame) -> DecodedEdit:
    """What `edit_frame` was made of."""
    shapes = frame.told["arrays"].items()
    given: dict[str, Any] = dict(frame.told["texts"])
    for (name, shape), part in zip(shapes, frame.parts, strict=True):
        given[name] = array_of(part, shape)
    return DecodedEdit(**given)


def tasks_frame(number: int, tasks: Sequence[tuple[int, CritiqueTask]]) -> Frame:
    """Candidates to judge, each with the number of its edit."""
    told: list[dict[str, Any]] = []
    parts: list[Part] = []
    for edit_number, task in tasks:
        candidate = task.candidate
        messages = {"options": task.options, "region": candidate.region, "progress": candidate.progress}
        present = {name: each for name, each in messages.items() if each is not None}
        told.append(
            {
                "edit": edit_number,
                "edit_id": task.edit.edit_id,
                "candidate_id": candidate.candidate_id,
                "image": shape_of(candidate.image),
                "messages": list(present),
            }
        )
        parts += [bytes_of(candidate.image), *(each.SerializeToString() for each in present.values())]
    return Frame("critique", number, {"tasks": told}, parts)


def read_tasks(frame: Frame, edit_of: Callable[[int, str], tuple[DecodedEdit, Any]]) -> list[CritiqueTask]:
    """What `tasks_frame` was made of.

    Args:
        frame: as it came.
        edit_of: an edit's number and its name to the edit and what the critic prepared of it.
    """
    parts = iter(frame.parts)
    return [_read_task(told, parts, edit_of) for told in frame.told["tasks"]]


def _read_task(
    told: Any, parts: Iterator[Part], edit_of: Callable[[int, str], tuple[DecodedEdit, Any]]
) -> CritiqueTask:
    kinds: dict[str, Any] = {
        "options": pb.CritiqueOptions,
        "region": pb.Box,
        "progress": pb.DenoisingProgress,
    }
    edit, prepared = edit_of(told["edit"], told["edit_id"])
    image = array_of(next(parts), told["image"])
    read: dict[str, Any] = {name: kinds[name].FromString(bytes(next(parts))) for name in told["messages"]}
    options = read.pop("options")
    return CritiqueTask(edit, prepared, DecodedCandidate(told["candidate_id"], image, **read), options)


def outcomes_frame(number: int, outcomes: Sequence[Outcome]) -> Frame:
    """Critiques, and statuses of what could not be judged."""
    is_error = [isinstance(outcome, EditCriticError) for outcome in outcomes]
    messages = [each.to_status() if isinstance(each, EditCriticError) else each for each in outcomes]
    return Frame("critiqued", number, {"is_error": is_error}, [each.SerializeToString() for each in messages])


def read_outcomes(frame: Frame, count: int) -> list[Outcome]:
    """What `outcomes_frame` was made of.

    Raises:
        ValueError: there are more or less than `count`.
    """
    kinds = frame.told["is_error"]
    if not len(kinds) == len(frame.parts) == count:
        raise ValueError(f"{len(frame.parts)} outcomes came for {count} candidates")
    return [
        _error(part) if is_error else pb.Critique.FromString(bytes(part))
        for is_error, part in zip(kinds, frame.parts, strict=True)
    ]


def failure(number: int, error: EditCriticError) -> Frame:
    """Why a request has no answer."""
    return Frame("failed", number, {}, [error.to_status().SerializeToString()])


def raise_failure(frame: Frame) -> Frame:
    """The frame, unless it is a failure.

    Raises:
        EditCriticError: it is one.
    """
    if frame.kind == "failed":
        raise _error(frame.parts[0])
    return frame


def _error(part: Part) -> EditCriticError:
    return error_from_status(status_pb2.Status.FromString(bytes(part)))
