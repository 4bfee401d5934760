"""What a handler sees of a call that came over HTTP, in the place of `grpc.aio.ServicerContext`."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.rpc import status_pb2

from editcritic.server.callers import ANONYMOUS, current_caller
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["CallContext", "Peer", "parse_timeout"]

_log = logging.getLogger(__name__)
_DETAILS_KEY = "grpc-status-details-bin"
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Peer:
    """Who is at the other end of a connection.

    Args:
        host: its address. port: of its end.
        certificate: name of its certificate, which was checked; empty without one.
    """

    def __init__(self, host: str = "", port: int = 0, certificate: str = "") -> None:
        self.host, self.port, self.certificate = host, port, certificate

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_timeout(text: str) -> float | None:
    """Seconds of a ``Grpc-Timeout``, such as ``30S`` or ``500m``; None for an empty one.

    Raises:
        InvalidInput: it is none.
    """
    if not text:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"Grpc-Timeout is {text[:40]!r}; it must be up to 8 digits and a unit of H, M, S, m, u or n, such as 30S.",
            reason=pb.ERROR_REASON_FIELD_INVALID,
        )
    return int(found[1]) * _UNITS_S[found[2]]


class CallContext:
    """One call.

    Args:
        peer: who calls.
        metadata: of the call.
        timeout_s: from now on; None without a deadline.
    """

    transport = "http"

    def __init__(self, peer: Peer, metadata: Sequence[tuple[str, str]], timeout_s: float | None) -> None:
        self._peer, self._metadata = peer, tuple(metadata)
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers: tuple[Any, ...] = ()
        self._callbacks: list[Callable[[CallContext], None]] = []
        self._is_over = False
        self._is_cancelled = False

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with an error."""
        self._code, self._details, self._trailers = code, details, tuple(trailing_metadata)
        raise grpc.aio.AbortError(details)

    def peer(self) -> str:
        """What fair shares go by: the address, and the connection of those whom only that tells apart.

        HTTP has a connection for each call that is open, so that to count by these would give most to whoever opens
        most. But on this machine all have one address, and without a token there is nothing else to know them by.
        """
        if self._peer.is_loopback and current_caller() is ANONYMOUS:
            return f"http:{self._peer.host}:{self._peer.port}"
        return f"http:{self._peer.host}"

    def auth_context(self) -> Mapping[str, list[bytes]]:
        """The name of the client's certificate, under gRPC's key; empty without one."""
        name = self._peer.certificate
        return {"x509_common_name": [name.encode()]} if name else {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """What came with the call."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def code(self) -> grpc.StatusCode | None:
        """How the call was ended; None where nothing was said."""
        return self._code

    def details(self) -> str:
        """The message of an error."""
        return self._details

    def trailing_metadata(self) -> tuple[Any, ...]:
        """The details of an error."""
        return self._trailers

    def status(self) -> status_pb2.Status:
        """The error that the call was ended with."""
        details = dict(self._trailers).get(_DETAILS_KEY)
        if details:
            return status_pb2.Status.FromString(details)
        code = self._code or grpc.StatusCode.UNKNOWN
        return status_pb2.Status(code=code.value[0], message=self._details)

    def cancelled(self) -> bool:
        """Whether the caller left or its time was up."""
        return self._is_cancelled

    def done(self) -> bool:
        """Whether the call is over."""
        return self._is_over

    def cancel(self) -> None:
        """Note that the caller left or its time was up."""
        self._is_cancelled = True

    def add_done_callback(self, callback: Callable[[CallContext], None]) -> None:
        """Have something called once the call is over, however it ended."""
        self._callbacks.append(callback)

    def finish(self) -> None:
        """Say that the call is over. Safe to call twice."""
        self._is_over = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            # One that fails must not cost the others their turn.
            try:
                callback(self)
            except Exception as error:
                _log.error("what was to be done at the end of a call failed", exc_info=error)
