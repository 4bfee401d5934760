"""Every handler of a server, found as gRPC finds it: through the server's own interceptors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

__all__ = ["CallDetails", "Page", "Registry"]

_OURS = "editcritic."
Handler: TypeAlias = Any  # grpc.RpcMethodHandler; the stubs describe only the blocking one.


@dataclass(frozen=True)
class CallDetails:
    """What an interceptor is told of a call: ``/package.Service/Method``, and the metadata that came with it."""

    method: str
    invocation_metadata: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """A file that the HTTP face hands out.

    content_type: for example ``text/html; charset=utf-8``. content: its bytes. headers: further ones of its answer.
    """

    content_type: str
    content: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Registry:
    """Stands in for a gRPC server where services register, hands all on to it, and keeps the handlers.

    Args:
        server: the gRPC server.
        interceptors: the same as that server's, the outermost first.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        interceptors: Sequence[grpc.aio.ServerInterceptor],  # type: ignore[type-arg]
    ) -> None:
        self._server = server
        self._interceptors = tuple(interceptors)
        self._handlers: list[Any] = []
        self.pages: dict[str, Page] = {}
        """Files by path, for a page that drives this server: ``/`` for one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """As `grpc.aio.Server` does."""
        self._handlers.extend(handlers)
        self._server.add_generic_rpc_handlers(handlers)

    def services(self) -> dict[str, ServiceDescriptor]:
        """Our services that registered, by their short names, in their order."""
        names = [handler.service_name() for handler in self._handlers]
        found = [
            descriptor_pool.Default().FindServiceByName(name) for name in names if name.startswith(_OURS)
        ]
        return {service.name: service for service in found}

    async def handler(self, details: CallDetails) -> Handler | None:
        """The handler of a call as the interceptors leave it; None for a method that nobody registered.

        It has to be called in the task that then runs the handler: the interceptors leave there who calls.
        """
        find: Callable[[Any], Awaitable[Handler]] = self._find
        for interceptor in reversed(self._interceptors):
            find = partial(interceptor.intercept_service, find)
        return await find(details)

    async def _find(self, details: CallDetails) -> Handler | None:
        found = (handler.service(details) for handler in self._handlers)
        return next((handler for handler in found if handler is not None), None)
