"""What waits and runs is bounded, in items and in bytes, over all callers and for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import grpc.aio

from editcritic.server.callers import ANONYMOUS, current_caller
from editcritic.server.fairness import FairLimit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Overloaded

__all__ = ["NOBODY", "Admission", "Party", "StreamLimit", "party_of"]

RETRY_AFTER_S = 1.0

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Party(NamedTuple):
    """A caller's connection. Room and turns are shared among these; what is kept is shared within a tenant only.

    Attributes:
        tenant: whose token the call carried; "" where tokens do not tell callers apart.
        connection: the peer's address and port.
    """

    tenant: str = ""
    connection: str = ""


NOBODY = Party()
"""Work of the server's own process."""


def party_of(context: Context) -> Party:
    """The party of the present call."""
    named = current_caller()
    return Party("" if named is ANONYMOUS else named.name, context.peer())


class Admission:
    """Bounds what waits and runs.

    Args:
        max_count: most items over all callers.
        max_bytes: most bytes over all callers.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._count: FairLimit[Party] = FairLimit(max_count)
        self._bytes: FairLimit[Party] = FairLimit(max_bytes)

    @property
    def count(self) -> int:
        """Items that wait and run."""
        return self._count.used

    @property
    def byte_count(self) -> int:
        """Bytes that they and the open edits take."""
        return self._bytes.used

    def reserve(self, count: int, byte_count: int, caller: Party = NOBODY) -> None:
        """Take room, to be given back with `release`.

        Raises:
            Overloaded: there is not enough, or the caller has more than a share; nothing was taken.
        """
        if not (self._count.fits(caller, count) and self._bytes.fits(caller, byte_count)):
            raise Overloaded(
                f"the server is full: {self.count} of {self._count.total} candidates and"
                f" {self.byte_count:,} of {self._bytes.total:,} bytes are waiting, of which one caller may have"
                " three quarters.",
                reason=pb.ERROR_REASON_QUEUE_FULL,
                retry_after_s=RETRY_AFTER_S,
            )
        self._count.take(caller, count)
        self._bytes.take(caller, byte_count)

    def release(self, count: int, byte_count: int, caller: Party = NOBODY) -> None:
        """Give room back."""
        self._count.give_back(caller, count)
        self._bytes.give_back(caller, byte_count)

    @contextmanager
    def room(self, count: int, byte_count: int, caller: Party = NOBODY) -> Iterator[None]:
        """Room for as long as the block lasts. Raises: as `reserve`."""
        self.reserve(count, byte_count, caller)
        try:
            yield
        finally:
            self.release(count, byte_count, caller)


class StreamLimit:
    """Bounds open streams.

    Args:
        max_count: most over all callers.
    """

    def __init__(self, max_count: int) -> None:
        self._limit: FairLimit[Party] = FairLimit(max_count)

    @property
    def count(self) -> int:
        """Streams that are open."""
        return self._limit.used

    def enter(self, caller: Party) -> None:
        """Count a stream until `leave`.

        Raises:
            Overloaded: there are too many, or too many of this caller.
        """
        if not self._limit.fits(caller, 1):
            raise Overloaded(
                f"{self._limit.used} of {self._limit.total} streams are open, of which one caller may have three"
                " quarters.",
                reason=pb.ERROR_REASON_TOO_MANY_STREAMS,
                retry_after_s=RETRY_AFTER_S,
            )
        self._limit.take(caller, 1)

    def leave(self, caller: Party) -> None:
        """Give the place back."""
        self._limit.give_back(caller, 1)
