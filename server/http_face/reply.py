"""The answer to one request: a JSON object, or lines of them as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.rpc import status_pb2

from editcritic.server.http_face.body import Body
from editcritic.server.http_face.wire import error_object, http_status, retry_after, write_json

__all__ = ["Reply", "Unread"]

Send = Callable[[Any], Awaitable[None]]
Headers = Sequence[tuple[str, str]]

_SLICE_BYTES = 1 << 16
_JSON, _LINES = "application/json", "application/x-ndjson"
# Whatever an answer holds, no browser shall take it for a page.
_ALWAYS = (("x-content-type-options", "nosniff"), ("cache-control", "no-store"))


class Unread(ConnectionError):
    """The client does not read its answer."""


class Reply:
    """What goes back.

    Args:
        send: of ASGI.
        body: of the request, which may still be on its way.
        headers: of every answer.
        timeout_s: within which the client has to read on.
        abort: cuts the connection.

    Attributes:
        has_begun: the status is sent, so that an error can only be a last line.
    """

    def __init__(
        self, send: Send, body: Body, headers: Headers, timeout_s: float, abort: Callable[[], None]
    ) -> None:
        self._send_part, self._body, self._headers = send, body, (*_ALWAYS, *headers)
        self._timeout_s, self._abort = timeout_s, abort
        self.has_begun = self._has_lines = False

    async def json(self, value: Any, status: int = 200, headers: Headers = ()) -> None:
        """Answer with one small object. Raises: Unread."""
        await self.data(write_json(value), status, headers)

    async def data(
        self, data: bytes, status: int = 200, headers: Headers = (), content_type: str = _JSON
    ) -> None:
        """Answer with some bytes. Raises: Unread."""
        # Before the whole request has come a client may still be sending: it has to hear that it need not.
        cut = () if not self._body.is_coming else (("connection", "close"),)
        length = ("content-length", str(len(data)))
        kind = (("content-type", content_type),) if data else ()
        await self._begin(status, (*kind, length, *cut, *headers))
        for start in range(0, len(data), _SLICE_BYTES):
            await self._part(data[start : start + _SLICE_BYTES])
        await self.end()

    async def line(self, data: bytes) -> None:
        """Answer with one more line, given without its end. Raises: Unread."""
        if not self.has_begun:
            # The client may be sending when the answer is complete already.
            cut = () if not self._body.is_coming else (("connection", "close"),)
            self._has_lines = True
            await self._begin(200, (("content-type", _LINES), *cut))
        data += b"\n"
        for start in range(0, len(data), _SLICE_BYTES):
            await self._part(data[start : start + _SLICE_BYTES])

    async def end(self) -> None:
        """Say that there are no more lines."""
        if not self.has_begun:
            await self._begin(200, (("content-type", _LINES),))
        if self._body.is_coming:
            await self._body.discard()
        await self._part(b"", more=False)

    async def error(self, error: status_pb2.Status, status: int | None = None, headers: Headers = ()) -> None:
        """Answer with an error: as the status where nothing was sent, else as the last line.

        Args:
            error: to tell.
            status: of HTTP; by default that of the error's code.
            headers: further ones.
        """
        if self._has_lines:
            await self.line(write_json({"error": error_object(error)}))
            await self.end()
            return
        if self.has_begun:  # nothing can be said any more: half an answer must not look like a whole one
            self._abort()
            return
        chosen = status or http_status(error.code)
        seconds = retry_after(error) if status is None else None
        again = () if seconds is None else (("retry-after", str(seconds)),)
        challenge = (("www-authenticate", "Bearer"),) if chosen == 401 else ()
        await self.json(error_object(error), chosen, (*again, *challenge, *headers))

    async def _begin(self, status: int, headers: Headers) -> None:
        self.has_begun = True
        lines = [(name.encode(), value.encode("latin-1")) for name, value in (*self._headers, *headers)]
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def _part(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _send(self, message: Any) -> None:
        try:
            await asyncio.wait_for(self._send_part(message), self._timeout_s)
        except asyncio.TimeoutError:
            self._abort()
            raise Unread(f"the answer was not read for {self._timeout_s:.0f} s") from None
