"""What goes between a front and a replica that carries out a run: one stream of items, and answers to its questions."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from editcritic.refine.preview_table import Group

__all__ = ["WIRE_REVISION", "Answer", "Item", "Mailbox", "Question", "RunOrder", "notice_of", "put_up_notice"]

WIRE_REVISION = 1
"""Fronts and replicas of the same revision understand each other."""

_NOTICES = b"editcritic"

Answer: TypeAlias = tuple[bool, bytes]
"""Whether it was judged, and the critique or the status."""

Item: TypeAlias = tuple[str, Literal["begin", "event", "question", "previews", "error", "end"], Any]
"""Name of the attempt, what it is, and what goes with it: nothing; the event and whether it is to be kept; a
`Question`; engine and critic as one name, and what was learned; a status; nothing."""


@dataclass(frozen=True, eq=False)
class RunOrder:
    """What a replica is to carry out.

    Attributes:
        name: of this attempt; all that belongs to it has to bear it.
        request: serialized, as `completed_request` gives it.
        past: events that the journal has, serialized, in order.
        previews: what the journal knows of previews, by engine and critic as one name.
        search, held_out: identities of the critic that steers and of the one that accepts; None for the same one.
        mailbox: the front's.
    """

    name: str
    request: bytes
    past: tuple[bytes, ...]
    previews: Mapping[str, Sequence[Group]]
    search: bytes
    held_out: bytes | None
    mailbox: Any


@dataclass(frozen=True, eq=False)
class Question:
    """What a run asks a critic.

    Attributes:
        number: of the attempt's questions, from 1.
        is_held_out: whether the critic is meant that accepts.
        candidate, progress: serialized; progress for a preview alone.
    """

    number: int
    is_held_out: bool
    candidate: bytes
    progress: bytes | None


class Mailbox:
    """An actor of a front, which puts answers into it; as nobody can be called who has no actor."""

    def __init__(self) -> None:
        self._answers: defaultdict[tuple[str, int], asyncio.Future[Answer]] = defaultdict(
            lambda: asyncio.get_running_loop().create_future()
        )

    async def put(self, run: str, number: int, answer: Answer) -> None:
        """Answer a question of an attempt."""
        self._answers[run, number].set_result(answer)

    async def take(self, run: str, number: int) -> Answer:
        """Wait for the answer to a question."""
        try:
            return await self._answers[run, number]
        finally:
            self._answers.pop((run, number), None)

    async def forget(self, run: str) -> None:
        """Drop what nobody takes any more."""
        for key in [key for key in self._answers if key[0] == run]:
            self._answers.pop(key).cancel()


def put_up_notice(application: str, info: bytes, fingerprint: str) -> None:
    """Write down in the cluster who an application's replicas are, as they may be too busy to be asked.

    Args:
        application: its name.
        info: serialized `EngineInfo`.
        fingerprint: of its deployment.
    """
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(application, b"\0".join((fingerprint.encode(), info)), namespace=_NOTICES)


def notice_of(application: str) -> tuple[bytes, str] | None:
    """Info and fingerprint as the replica that started last wrote them down; None before the first."""
    from ray.experimental.internal_kv import _internal_kv_get

    found = _internal_kv_get(application, namespace=_NOTICES)
    if found is None:
        return None
    fingerprint, _, info = found.partition(b"\0")
    return info, fingerprint.decode()
