"""The one place where errors become statuses: every call of ours passes through here.

What gRPC's own server would tell a client (UNKNOWN with the text of our exception) says too much and too
little. Here every error of the tree gets its code and details, anything else becomes INTERNAL with an
incident id whose story is in the log, bytes that are no message become INVALID_ARGUMENT, and calls without
the token are refused.
"""

from __future__ import annotations

import hmac
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput, ServerFault, Unauthenticated

__all__ = ["Guard"]

_log = logging.getLogger(__name__)
_OURS = "/editcritic."
_HEALTH = "/grpc.health."
_DETAILS_KEY = "grpc-status-details-bin"
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Handler: TypeAlias = Any  # grpc.RpcMethodHandler; the stubs describe only the blocking one.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Checks the token, survives malformed messages and maps every error.

    Args:
        token: bearer token that every call but health must carry; None asks for none.
    """

    def __init__(self, token: str | None = None) -> None:
        self._expected = f"Bearer {token}".encode() if token is not None else None

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The call's handler, guarded."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_HEALTH):
            return handler
        if not self._is_authorised(handler_call_details.invocation_metadata):
            return _refusing(handler)
        return _guarded(handler) if method.startswith(_OURS) else handler

    def _is_authorised(self, metadata: Any) -> bool:
        if self._expected is None:
            return True
        given = next((value for key, value in metadata or () if key == "authorization"), "")
        return hmac.compare_digest(given.encode() if isinstance(given, str) else given, self._expected)


class _Undecodable:
    """Stands for a request whose bytes are no message."""


def _guarded(handler: Handler) -> Handler:
    deserialize = _forgiving(handler.request_deserializer)
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _guarded_stream(handler.stream_stream), deserialize, handler.response_serializer
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _guarded_stream(handler.unary_stream), deserialize, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        _guarded_unary(handler.unary_unary), deserialize, handler.response_serializer
    )


def _forgiving(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def attempt(data: bytes) -> Any:
        try:
            return deserialize(data)
        # The exception's type differs between protobuf implementations.
        except Exception:
            return _Undecodable()

    return attempt


def _guarded_unary(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await behaviour(_decoded(request), context)
        except Exception as error:
            await _abort(context, error)

    return guarded


def _guarded_stream(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        streaming = hasattr(request, "__aiter__")
        try:
            requests = _all_decoded(request) if streaming else _decoded(request)
            async for response in behaviour(requests, context):
                yield response
        except Exception as error:
            await _abort(context, error)

    return guarded


async def _all_decoded(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _decoded(request)


def _decoded(request: Any) -> Any:
    if isinstance(request, _Undecodable):
        raise InvalidInput(
            "the request's bytes are no message of editcritic.v1.",
            reason=pb.ERROR_REASON_MESSAGE_UNDECODABLE,
        )
    return request


async def _abort(context: Context, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    known = error if isinstance(error, EditCriticError) else _incident(error)
    status = known.to_status()
    details = ((_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(_CODES[status.code], status.message, details)


def _incident(error: Exception) -> ServerFault:
    incident = uuid.uuid4().hex[:12]
    _log.error("incident %s", incident, exc_info=error)
    return ServerFault(
        f"the server is at fault (incident {incident}); its log has the story.",
        reason=pb.ERROR_REASON_INTERNAL,
        metadata={"incident": incident},
    )


def _refusing(handler: Handler) -> Handler:
    async def refuse(_request: Any, context: Context) -> None:
        await _abort(
            context,
            Unauthenticated(
                "this server asks for a bearer token in the metadata 'authorization'.",
                reason=pb.ERROR_REASON_UNAUTHENTICATED,
            ),
        )

    async def refuse_stream(request: Any, context: Context) -> AsyncIterator[Any]:
        await refuse(request, context)
        yield  # never reached: it makes this a generator, as gRPC expects of a streaming handler

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)
