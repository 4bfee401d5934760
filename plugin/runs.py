"""Engines as `RefineService` sees them, in this process (`local_runs`) or behind Ray (`ray_engines`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import NotFound

__all__ = ["UNREAD_EVENTS", "Engines", "Running", "offered_engine"]

UNREAD_EVENTS = 16
"""Events that wait for a slow client before the run waits with them."""


class Running(Protocol):
    """A run that has begun."""

    def events(self) -> AsyncIterator[refine_pb2.RefineResponse]:
        """What happens, until the run is over. Raises: what the run raises."""

    def leave(self) -> None:
        """Stop after the present step; what was done is in the journal. Safe to call twice."""


class Engines(Protocol):
    """Those that a server offers.

    most_runs: edits that may run at a time.
    """

    @property
    def most_runs(self) -> int:
        """Edits that may run at a time."""

    async def infos(self) -> list[refine_pb2.EngineInfo]:
        """Who they are; those that cannot be opened are left out."""

    async def start(self, request: refine_pb2.RefineRequest, on_end: Callable[[], None]) -> Running:
        """Begin a run, in the name of the present caller.

        Args:
            request: as `completed_request` gives it.
            on_end: called on the event loop once the edit may be run again.

        Raises:
            EditCriticError: there is no such engine, or it cannot be opened.
        """


def offered_engine(name: str, names: Sequence[str]) -> str:
    """The engine that is meant; the first for an empty name.

    Raises:
        NotFound: it is not offered. A client may not have the server open what its owner did not name.
    """
    wanted = name or names[0]
    if wanted not in names:
        raise NotFound(
            f"there is no engine {wanted[:64]!r} here; offered are {', '.join(names)}.",
            reason=pb.ERROR_REASON_ENGINE_UNKNOWN,
            field="sampling.engine",
        )
    return wanted
