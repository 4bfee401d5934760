"""The one place where errors become statuses: every call of ours passes through here.

What gRPC's own server would tell a client (UNKNOWN with the text of our exception) says too much and too
little. Here every error of the tree gets its code and details, anything else becomes INTERNAL with an
incident id whose story is in the log, bytes that are no message become INVALID_ARGUMENT, and calls without
a token, beyond its role or beyond its quota are refused. Handlers learn who calls from `callers.current_caller`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from editcritic.server.callers import ANONYMOUS, Caller, call_as
from editcritic.server.tokens import Authenticator
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
    """Checks token, role and quota, survives malformed messages and maps every error.

    Args:
        authenticator: says who a token belongs to; health alone is answered without asking it.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

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
        try:
            caller = self._admitted(method, handler_call_details.invocation_metadata)
        except EditCriticError as error:
            return _refusing(handler, error)
        return _guarded(handler, caller) if method.startswith(_OURS) else handler

    def _admitted(self, method: str, metadata: Any) -> Caller:
        given = next((value for key, value in metadata or () if key == "authorization"), "")
        caller = self._authenticator.caller(given)
        if caller is None:
            raise Unauthenticated(
                "this server asks for a bearer token in the metadata 'authorization'.",
                reason=pb.ERROR_REASON_UNAUTHENTICATED,
            )
        call_as(caller)
        caller.admit(method)
        return caller


class _Undecodable:
    """Stands for a request whose bytes are no message."""


def _guarded(handler: Handler, caller: Caller) -> Handler:
    deserialize = _forgiving(handler.request_deserializer)
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _guarded_stream(handler.stream_stream, caller), deserialize, handler.response_serializer
        )
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _guarded_stream(handler.unary_stream, caller), deserialize, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        _guarded_unary(handler.unary_unary, caller), deserialize, handler.response_serializer
    )


def _forgiving(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def attempt(data: bytes) -> Any:
        try:
            return deserialize(data)
        # The exception's type differs between protobuf implementations.
        except Exception:
            return _Undecodable()

    return attempt


def _guarded_unary(behaviour: Callable[..., Any], caller: Caller) -> Callable[..., Any]:
    async def guarded(request: Any, context: Context) -> Any:
        call_as(_named(caller, context))
        try:
            return await behaviour(_decoded(request), context)
        except Exception as error:
            await _abort(context, error)

    return guarded


def _guarded_stream(behaviour: Callable[..., Any], caller: Caller) -> Callable[..., Any]:
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        call_as(_named(caller, context))
        streaming = hasattr(request, "__aiter__")
        try:
            requests = _all_decoded(request) if streaming else _decoded(request)
            async for response in behaviour(requests, context):
                yield response
        except Exception as error:
            await _abort(context, error)

    return guarded


def _named(caller: Caller, context: Context) -> Caller:
    """The caller; where there are no tokens, under the name of its certificate if it has one."""
    names = context.auth_context().get("x509_common_name") if caller is ANONYMOUS else None
    return Caller(next(iter(names)).decode(errors="replace"), caller.role) if names else caller


async def _all_decoded(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        message = _decoded(request)
        # The first message of a stream holds the whole edit, and the stream may stay open for hours.
        del request
        yield message
        del message


def _decoded(request: Any) -> Any:
    # HTTP's face knows better what is wrong with a request, and leaves it to us to tell.
    if isinstance(request, EditCriticError):
        raise request
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


def _refusing(handler: Handler, error: EditCriticError) -> Handler:
    async def refuse(_request: Any, context: Context) -> None:
        await _abort(context, error)

    async def refuse_stream(request: Any, context: Context) -> AsyncIterator[Any]:
        await refuse(request, context)
        yield  # never reached: it makes this a generator, as gRPC expects of a streaming handler

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)
