"""Listens for HTTP on the server's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from editcritic.server.http_face.context import Peer
from editcritic.server.http_face.face import CONNECTION, MAX_HEADER_BYTES, HttpFace
from editcritic.server.settings import ServerSettings, SettingsError, split_address
from editcritic.server.tls import CertificateFiles

__all__ = ["HttpListener"]

_KEEP_ALIVE_S = 30.0
_LAST_WORDS_S = 1.0


class _Protocol(H11Protocol):
    """A connection that has to send its request in time, and that knows whom it belongs to."""

    request_timeout_s = 60.0
    max_connections = 4096
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self.app = _within(self.app, _peer_of(transport), transport.abort)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._late is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # What the client did not read would keep it open for ever.
        self.loop.call_later(_LAST_WORDS_S, self.transport.abort)

    def _expect(self) -> None:
        self._late = self.loop.call_later(self.request_timeout_s, self.transport.abort)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class HttpListener:
    """Offers a face.

    Args:
        face: what answers.
        settings: the address, the limits and the certificates.

    Attributes:
        address: ``host:port``.

    Raises:
        SettingsError: the certificates cannot be read, or the address cannot be listened on.
    """

    def __init__(self, face: HttpFace, settings: ServerSettings) -> None:
        self._face, self._settings = face, settings
        self._certificates = CertificateFiles.of(settings)
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._socket = _bound(settings.http or "")
        host, port = self._socket.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def start(self) -> None:
        """Take connections from now on."""
        config = uvicorn.Config(
            self._face,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            # A warning for each line of rubbish would let anyone fill the log.
            log_level="error",
            # Whoever calls could write these headers.
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_keep_alive=min(_KEEP_ALIVE_S, self._settings.http_request_timeout_s),  # type: ignore[arg-type]
        )
        config.load()
        made = type(
            "_Configured",
            (_Protocol,),
            {
                "request_timeout_s": self._settings.http_request_timeout_s,
                "max_connections": self._settings.max_streams,
            },
        )
        self._server = await asyncio.get_running_loop().create_server(
            lambda: made(config=config, server_state=self._state, app_state={}),
            sock=self._socket,
            ssl=self._certificates.ssl_context() if self._certificates is not None else None,
        )

    async def stop(self, grace_s: float) -> None:
        """Take no new connections, let open calls finish within the grace, then close. Safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        await self._face.stop(grace_s)
        for connection in tuple(self._state.connections):
            connection.shutdown()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._emptied(), _LAST_WORDS_S)
        for connection in tuple(self._state.connections):
            connection.transport.abort()

    async def _emptied(self) -> None:
        while self._state.connections or self._state.tasks:
            await asyncio.sleep(0.01)


def _within(app: Any, peer: Peer, abort: Callable[[], None]) -> Any:
    async def bound(scope: Any, receive: Any, send: Any) -> None:
        scope[CONNECTION] = (peer, abort)
        await app(scope, receive, send)

    return bound


def _peer_of(transport: Any) -> Peer:
    host, port, *_ = transport.get_extra_info("peername") or ("", 0)
    subject = (transport.get_extra_info("peercert") or {}).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return Peer(host, port, next(iter(names), ""))


def _bound(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(where[:2], family=family)
    except OSError as error:
        raise SettingsError(
            f"cannot listen for HTTP on {address}: {error}. Is another server there? Port 0 takes a free one."
        ) from error
