"""A line in the log for every call of ours: who, what, how it ended, how long. Never what was sent."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.rpc import status_pb2

from editcritic.server.callers import current_caller
from editcritic.server.observing import Call, Observer
from editcritic.v1 import tracing
from editcritic.v1.errors import error_from_status

__all__ = ["CallLog", "current_call_id"]

_log = logging.getLogger(__name__)
_OURS = "/editcritic."
_DETAILS_KEY = "grpc-status-details-bin"
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_call_id: ContextVar[str] = ContextVar("call_id", default="")

Handler: TypeAlias = Any  # grpc.RpcMethodHandler; the stubs describe only the blocking one.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def current_call_id() -> str:
    """Name of the call that the present task works for; empty outside of one."""
    return _call_id.get()


class CallLog(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Logs the end of every call of ours and tells an observer; it stands before the guard, whose refusals it sees too.

    Args:
        observer: told of every call.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The call's handler, watched."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(_OURS):
            return handler
        name = method.rpartition(".")[2]
        if not handler.response_streaming:
            return handler._replace(unary_unary=self._unary(handler.unary_unary, name))
        kind = "stream_stream" if handler.request_streaming else "unary_stream"
        return handler._replace(**{kind: self._stream(getattr(handler, kind), name)})

    def _unary(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def watched(request: Any, context: Context) -> Any:
            call = self._begin(method, context)
            try:
                answer = await behaviour(request, context)
                call.status = "OK"
            finally:
                call.caller = current_caller().name
            return answer

        return watched

    def _stream(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def watched(request: Any, context: Context) -> AsyncIterator[Any]:
            call = self._begin(method, context)
            call.caller = current_caller().name
            async for response in behaviour(request, context):
                # A certificate's name is known from the first answer on.
                call.caller = current_caller().name
                yield response
            call.status = "OK"

        return watched

    def _begin(self, method: str, context: Context) -> Call:
        call, began = Call(uuid.uuid4().hex[:16], method), time.monotonic()
        call.transport = getattr(context, "transport", call.transport)
        _call_id.set(call.call_id)
        call.trace_id, end_span = tracing.begin_call(method, context.invocation_metadata())  # type: ignore[arg-type]

        def end(ended: Any) -> None:
            call.seconds = time.monotonic() - began
            if not call.status:
                call.status, call.reason = _how_it_failed(ended)
            end_span(call.status, call.caller)
            _tell(call)
            self._observer.call_ended(call)

        # A call that is cancelled while an answer is being written never enters a `finally`.
        context.add_done_callback(end)  # type: ignore[arg-type]
        return call


def _how_it_failed(context: Any) -> tuple[str, str]:
    """Name of the status, and the reason of an error of ours."""
    details = dict(context.trailing_metadata() or ()).get(_DETAILS_KEY)
    error = error_from_status(status_pb2.Status.FromString(details)) if details else None
    reason = error.reason_name if error is not None and error.reason else ""
    code = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code or 0)
    if number == 0:  # nothing was said: the client left, or its time was up
        remaining_s = context.time_remaining()
        number = 4 if remaining_s is not None and remaining_s <= 0 else 1
    return _NAMES.get(number, "UNKNOWN"), reason


def _tell(call: Call) -> None:
    fields = {
        "call_id": call.call_id,
        "caller": call.caller,
        "method": call.method,
        "status": call.status,
        "reason": call.reason,
        "duration_ms": round(call.seconds * 1000, 1),
        "trace_id": call.trace_id,
        "transport": call.transport,
    }
    told = f"{call.status} {call.reason}".strip()
    _log.info(
        "%s for %s: %s in %.1f ms (call %s)",
        call.method,
        call.caller,
        told,
        call.seconds * 1000,
        call.call_id,
        extra=fields,
    )
