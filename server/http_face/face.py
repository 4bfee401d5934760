"""The paths of the HTTP face: ``/v1/<Service>/<Method>``, ``/v1/health``, ``/v1/openapi.json``, and added pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from editcritic.server.admission import Admission, Party
from editcritic.server.http_face.body import Body
from editcritic.server.http_face.call import HttpCall, stopping
from editcritic.server.http_face.context import CallContext, Peer, parse_timeout
from editcritic.server.http_face.openapi import describe
from editcritic.server.http_face.origins import Origins
from editcritic.server.http_face.registry import Registry
from editcritic.server.http_face.reply import Headers, Reply
from editcritic.server.http_face.wire import write_json
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, Incompatible, InvalidInput, NotFound

__all__ = ["CONNECTION", "MAX_HEADER_BYTES", "HttpFace", "Refused"]

MAX_HEADER_BYTES = 16384
"""As much as gRPC's own limit on metadata, and a browser's habits on top."""

CONNECTION = "editcritic.connection"
"""Where a request's scope has its `Peer`, and what cuts its connection."""

_PREFIX = "/v1/"
_METADATA = ("authorization", "traceparent", "tracestate", "user-agent")
_READERS = 2
_TYPES = ("application/json", "application/x-ndjson")


class Refused(Exception):
    """A request that is none of ours: an error with an HTTP status of its own."""

    def __init__(self, status: int, error: EditCriticError, headers: Headers = ()) -> None:
        super().__init__(error.message)
        self.status, self.error, self.headers = status, error, headers


class HttpFace:
    """An ASGI application: a server's services over HTTP and JSON.

    Args:
        registry: the services, which registered already.
        settings: the limits.
        host: that it listens on.
        is_serving: whether the server is ready.
    """

    def __init__(
        self,
        registry: Registry,
        settings: ServerSettings,
        host: str,
        is_serving: Callable[[], Awaitable[bool]],
    ) -> None:
        self._registry, self._settings, self._is_serving = registry, settings, is_serving
        self._origins = Origins(settings, host)
        self._services = registry.services()
        self._openapi = write_json(describe(list(self._services.values())))
        self._room = Admission(1, settings.max_queued_bytes)
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="http-json")
        self._calls: dict[HttpCall, asyncio.Future[None]] = {}
        self._is_stopping = False

    async def __call__(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Answer one request."""
        lines = scope["headers"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in lines}
        peer, abort = scope[CONNECTION]
        settings = self._settings
        body = Body(
            receive,
            settings.max_message_bytes,
            settings.http_request_timeout_s,
            self._room,
            Party("", f"http:{peer.host}"),
            None if "transfer-encoding" in headers else int(headers.get("content-length", 0)),
        )
        told = self._origins.headers(headers.get("origin", ""), preflight=scope["method"] == "OPTIONS")
        reply = Reply(send, body, told, settings.idle_timeout_s, abort)
        try:
            if sum(len(name) + len(value) + 4 for name, value in lines) > MAX_HEADER_BYTES:
                raise Refused(431, _invalid(f"the headers have over {MAX_HEADER_BYTES:,} bytes."))
            await self._route(scope, headers, peer, body, reply)
        except Refused as refused:
            await reply.error(refused.error.to_status(), refused.status, refused.headers)
        except EditCriticError as error:
            await reply.error(error.to_status())
        except ConnectionError:
            pass  # whoever it was is gone
        finally:
            await body.close()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let open ones finish within the grace, then cut them off."""
        self._is_stopping = True
        if self._calls:
            await asyncio.wait(self._calls.values(), timeout=grace_s)
        for call in tuple(self._calls):
            call.stop()
        if self._calls:
            await asyncio.wait(self._calls.values(), timeout=1.0)
        self._threads.shutdown(wait=False)

    async def _route(
        self, scope: Any, headers: Mapping[str, str], peer: Peer, body: Body, reply: Reply
    ) -> None:
        self._origins.check(headers, scope["scheme"])
        method, path = scope["method"], scope["path"]
        if method == "OPTIONS" and self._origins.allows(headers.get("origin", "")):
            await reply.data(b"", 204)
        elif path in self._registry.pages:
            _require_method(method, "GET")
            page = self._registry.pages[path]
            await reply.data(page.content, 200, page.headers, page.content_type)
        elif path == f"{_PREFIX}openapi.json":
            _require_method(method, "GET")
            await reply.data(self._openapi)
        elif path == f"{_PREFIX}health":
            _require_method(method, "GET")
            ready = await self._is_serving() and not self._is_stopping
            await reply.json({"status": "SERVING" if ready else "NOT_SERVING"}, 200 if ready else 503)
        else:
            called = self._method(path)
            _require_method(method, "POST")
            _check_content(headers)
            await self._call(called, headers, peer, body, reply)

    def _method(self, path: str) -> MethodDescriptor:
        service, slash, name = path.removeprefix(_PREFIX).partition("/")
        if not path.startswith(_PREFIX) or not slash or "/" in name:
            raise NotFound(
                "there is nothing here; calls go to /v1/<Service>/<Method>, and /v1/openapi.json lists them."
            )
        known = self._services.get(service)
        if known is None or name not in known.methods_by_name:
            raise Incompatible(
                f"this server does not offer {service[:64]}/{name[:64]}; /v1/openapi.json lists what it does."
            )
        return known.methods_by_name[name]

    async def _call(
        self, method: MethodDescriptor, headers: Mapping[str, str], peer: Peer, body: Body, reply: Reply
    ) -> None:
        if self._is_stopping:
            raise stopping()
        metadata = [(name, headers[name]) for name in _METADATA if name in headers]
        context = CallContext(peer, metadata, parse_timeout(headers.get("grpc-timeout", "")))
        max_bytes = self._settings.max_message_bytes
        call = HttpCall(
            self._registry, method, context, body, reply, threads=self._threads, max_bytes=max_bytes
        )
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls[call] = ended
        try:
            await call.run()
        finally:
            del self._calls[call]
            ended.set_result(None)


def _require_method(method: str, wanted: str) -> None:
    if method != wanted:
        error = InvalidInput(f"{wanted} is expected here, {method[:16]} came.")
        raise Refused(405, error, (("allow", wanted),))


def _check_content(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page may send text or a form without asking first, but not JSON.
    if kind not in _TYPES:
        raise Refused(415, _invalid(f"Content-Type must be {' or '.join(_TYPES)}, {kind[:60]!r} came."))
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refused(415, _invalid(f"a request must not be packed; Content-Encoding is {coding[:40]!r}."))


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, reason=pb.ERROR_REASON_MESSAGE_UNDECODABLE)
