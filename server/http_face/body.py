"""The body of a request as it arrives: bounded in bytes and in time, whole or line by line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from editcritic.server.admission import Admission, Party
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled, DeadlineExceeded, EditCriticError, InvalidInput

__all__ = ["Body", "TooLarge", "TooSlow"]

Receive = Callable[[], Awaitable[Any]]
_LINGER_S = 2.0


class TooLarge(InvalidInput):
    """The request has more bytes than the server takes."""


class TooSlow(DeadlineExceeded):
    """The request did not arrive in time."""


class Body:
    """What a client sends after the headers.

    Args:
        receive: of ASGI.
        max_bytes: of the whole body, or of a line of one that is read by lines.
        timeout_s: within which a body that is read whole must have come.
        room: what all bodies share.
        owner: whose share it is.
        declared: bytes that it is said to have; None where the headers leave it open.

    Attributes:
        gone: set once the client has left.
        is_over: all of it was read, or the client has left.
    """

    def __init__(
        self,
        receive: Receive,
        max_bytes: int,
        timeout_s: float,
        room: Admission,
        owner: Party,
        declared: int | None = 0,
    ) -> None:
        self._receive, self._max_bytes, self._timeout_s = receive, max_bytes, timeout_s
        self._room, self._owner, self._declared = room, owner, declared
        self._held = 0
        self._watch: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.is_over = False

    @property
    def is_coming(self) -> bool:
        """Whether the client may still be sending."""
        return not self.is_over and self._declared != 0

    async def whole(self) -> bytes:
        """All of it.

        Raises:
            TooLarge: it has more bytes than it may.
            TooSlow: it took too long.
            Overloaded: other bodies take all the room.
        """
        self._check_size(self._declared or 0)
        parts = bytearray()
        ends = time.monotonic() + self._timeout_s
        while (part := await self._next(ends)) is not None:
            parts += part
            self._hold(len(part), len(parts))
        return bytes(parts)

    async def lines(self) -> AsyncIterator[bytes]:
        """Its lines as they come, without their ends; empty ones are left out. Raises: as `whole`."""
        rest = bytearray()
        while (part := await self._next(None)) is not None:
            *lines, last = bytes(part).split(b"\n")
            for line in lines:
                whole = bytes(rest) + line
                rest.clear()
                self.release()
                if whole.strip():
                    yield whole
            rest += last
            self._hold(len(last), len(rest))
        if rest.strip():
            yield bytes(rest)

    def release(self) -> None:
        """Give back the room of what was read."""
        held, self._held = self._held, 0
        self._room.release(0, held, self._owner)

    async def close(self) -> None:
        """Stop watching, and give all room back."""
        self.release()
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    async def discard(self) -> None:
        """Read on for a moment: a client that is still sending would not see its answer otherwise."""
        with suppress(asyncio.TimeoutError, EditCriticError):
            ends = time.monotonic() + _LINGER_S
            while await self._next(ends) is not None:
                pass

    def _hold(self, count: int, total: int) -> None:
        self._check_size(total)
        self._room.reserve(0, count, self._owner)
        self._held += count

    def _check_size(self, count: int) -> None:
        if count > self._max_bytes:
            raise TooLarge(
                f"the request has over {self._max_bytes:,} bytes, which is all that this server takes.",
                reason=pb.ERROR_REASON_FIELD_INVALID,
            )

    async def _next(self, ends: float | None) -> bytes | None:
        if self.is_over:
            return None
        left_s = None if ends is None else max(0.0, ends - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), left_s)
        except asyncio.TimeoutError:
            raise TooSlow(
                f"the request did not arrive within {self._timeout_s:.0f} s.",
                reason=pb.ERROR_REASON_BUDGET_EXCEEDED,
            ) from None
        if message["type"] == "http.disconnect":
            self.is_over = True
            self.gone.set()
            raise Cancelled("the client left.")
        if not message.get("more_body", False):
            self.is_over = True
            self._watch = asyncio.create_task(self._until_gone())
        return message.get("body", b"")  # type: ignore[no-any-return]

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
