"""The gRPC face of loading and unloading critics."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeAlias

import grpc.aio

from editcritic.server.hosting import CriticHost, Hosts
from editcritic.v1 import admin_pb2, admin_pb2_grpc
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput, NotFound, ProtocolError

__all__ = ["AdminService"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_log = logging.getLogger(__name__)


class AdminService(admin_pb2_grpc.AdminServiceServicer):
    """Answers `editcritic.v1.AdminService`. Errors leave as exceptions; the guard makes statuses of them.

    Args:
        hosts: the critics.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        # Two loads at once could need the memory of three models.
        self._loading = asyncio.Lock()

    async def LoadCritic(
        self, request: admin_pb2.LoadCriticRequest, context: Context
    ) -> admin_pb2.LoadCriticResponse:
        """Load, warm, switch."""
        if not request.spec:
            raise InvalidInput(
                "the request names no critic.", reason=pb.ERROR_REASON_FIELD_MISSING, field="spec"
            )
        async with self._loading:
            try:
                host = await self._hosts.offer(request.spec)
            except InvalidInput as error:
                raise type(error)(error.message, reason=error.reason, field="spec") from error
            except NotFound:
                raise
            except Exception as error:
                raise _not_loaded(request.spec, error) from error
        return admin_pb2.LoadCriticResponse(critic=self._described(host))

    async def UnloadCritic(
        self, request: admin_pb2.UnloadCriticRequest, context: Context
    ) -> admin_pb2.UnloadCriticResponse:
        """Take a critic out."""
        async with self._loading:
            await self._hosts.withdraw(request.name)
        return admin_pb2.UnloadCriticResponse()

    async def ListLoadedCritics(
        self, request: admin_pb2.ListLoadedCriticsRequest, context: Context
    ) -> admin_pb2.ListLoadedCriticsResponse:
        """What is in memory."""
        hosts = [*self._hosts.all(), *self._hosts.leaving()]
        return admin_pb2.ListLoadedCriticsResponse(critics=[self._described(host) for host in hosts])

    def _described(self, host: CriticHost) -> admin_pb2.LoadedCritic:
        return admin_pb2.LoadedCritic(
            spec=host.spec,
            info=host.info,
            load_number=host.load_number,
            is_current=host in self._hosts.all(),
            open_edit_count=len(host.edits),
        )


def _not_loaded(spec: str, error: Exception) -> ProtocolError:
    _log.error("the critic %r could not be loaded", spec, exc_info=error)
    told = error.message if isinstance(error, EditCriticError) else f"{type(error).__name__}: {error}"
    return ProtocolError(
        f"the critic {spec[:200]!r} could not be loaded, and everything stays as it was: {told[:500]}",
        reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
        field="spec",
    )
