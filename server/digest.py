"""The name of a candidate by its content, made while the candidate is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from editcritic.server.kept import content_sha256
from editcritic.v1 import critic_pb2 as pb

__all__ = ["LateDigest"]

# The critic's thread, which is about to begin, would have to share the interpreter with the hashing one.
_AFTER_S = 0.002


class LateDigest:
    """SHA-256 of a candidate's content, hashed off the event loop a moment later, or once it is asked for.

    Args:
        candidate: as it came.
        decode: runs a function off the event loop.
        also: what else is to be done there while the candidate is judged; left out when there is no time.
    """

    def __init__(
        self, candidate: pb.Candidate, decode: Callable[..., Awaitable[bytes]], also: Callable[[], None]
    ) -> None:
        self._candidate, self._decode = candidate, decode
        self._hashing: asyncio.Future[bytes] | None = None
        self._timer = asyncio.get_running_loop().call_later(_AFTER_S, self._begin, also)

    async def value(self) -> bytes:
        """Wait for it."""
        self._timer.cancel()
        return await (self._hashing or self._begin(_nothing))

    def close(self) -> None:
        """Nobody wants it any more. Safe to call twice."""
        self._timer.cancel()
        if self._hashing is not None:
            self._hashing.cancel()

    def _begin(self, also: Callable[[], None]) -> asyncio.Future[bytes]:
        self._hashing = asyncio.ensure_future(self._decode(_hashed, self._candidate, also))
        return self._hashing


def _hashed(candidate: pb.Candidate, also: Callable[[], None]) -> bytes:
    digest = content_sha256(candidate)
    also()
    return digest


def _nothing() -> None:
    pass
