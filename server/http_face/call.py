"""One call over HTTP, from its handler to its answer."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from editcritic.server.http_face.body import Body, TooLarge, TooSlow
from editcritic.server.http_face.context import CallContext
from editcritic.server.http_face.registry import CallDetails, Handler, Registry
from editcritic.server.http_face.reply import Reply, Unread
from editcritic.server.http_face.wire import read_message, write_json, write_message
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import (
    DeadlineExceeded,
    EditCriticError,
    Incompatible,
    Overloaded,
    ServerFault,
    ServerUnavailable,
)

__all__ = ["HttpCall", "stopping"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
# Below it a thread costs more than the work.
_SMALL_BYTES = 1 << 15
_STATUSES: dict[type[BaseException], int] = {TooLarge: 413, TooSlow: 408}
# Nothing of the request before, on the same connection, is there.
_EMPTY = contextvars.Context()


class HttpCall:
    """A method of a service, called once.

    Args:
        registry: finds the handler.
        method: that is called.
        context: of the call.
        body: of the request.
        reply: to it.
        threads: where large messages are read and written.
        max_bytes: of a message of the answer.
    """

    def __init__(
        self,
        registry: Registry,
        method: MethodDescriptor,
        context: CallContext,
        body: Body,
        reply: Reply,
        *,
        threads: Executor,
        max_bytes: int,
    ) -> None:
        self._registry, self._method, self._context = registry, method, context
        self._body, self._reply = body, reply
        self._threads, self._max_bytes = threads, max_bytes
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._status: int | None = None

    async def run(self) -> None:
        """Carry it out until it is answered, its time is up, or the client has left."""
        create = asyncio.get_running_loop().create_task
        self._task = _EMPTY.copy().run(create, self._carry_out())
        leaving = asyncio.create_task(self._body.gone.wait())
        left_s = self._context.time_remaining()
        try:
            await asyncio.wait({self._task, leaving}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            while not self._task.done():
                self._context.cancel()
                self._task.cancel()
                # Before Python 3.12 `wait_for` may lose one.
                await asyncio.wait({self._task}, timeout=1.0)
            self._context.finish()
        if not self._task.cancelled():
            self._task.result()
        elif not self._body.gone.is_set():
            await self._reply.error(self._why_cancelled().to_status())

    def stop(self) -> None:
        """Cut it off, because the server stops."""
        if self._task is not None and not self._task.done():
            self._is_stopped = True
            self._context.cancel()
            self._task.cancel()

    def _why_cancelled(self) -> EditCriticError:
        if self._is_stopped:
            return stopping()
        return DeadlineExceeded("the call's time was up.", reason=pb.ERROR_REASON_BUDGET_EXCEEDED)

    async def _carry_out(self) -> None:
        path = f"/{self._method.containing_service.full_name}/{self._method.name}"
        handler = await self._registry.handler(CallDetails(path, self._context.invocation_metadata()))
        try:
            if handler is None:
                raise Incompatible(f"this server does not offer {self._method.name}.")
            await self._answer(handler)
        except grpc.aio.AbortError:
            await self._reply.error(self._context.status(), self._status)
        except EditCriticError as error:
            await self._reply.error(error.to_status())
        except Unread as error:
            _log.info("%s: %s", path, error)
        except Exception as error:
            await self._reply.error(_incident(error).to_status())

    async def _answer(self, handler: Handler) -> None:
        request = self._requests(handler) if handler.request_streaming else await self._request(handler)
        if not handler.response_streaming:
            answer = await handler.unary_unary(request, self._context)
            await self._reply.data(await self._written(answer))
            return
        behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
        async with aclosing(behaviour(request, self._context)) as answers:
            async for answer in answers:
                await self._reply.line(await self._written(answer, in_line=True))
        await self._reply.end()

    async def _request(self, handler: Handler) -> Any:
        """The message; or the error that it is refused with, which the guard tells as it tells all others."""
        # A handler that refuses the call reads no message: what nobody may send is not even received.
        if handler.request_deserializer is None:
            return None
        try:
            return await self._read(await self._body.whole())
        except EditCriticError as error:
            self._status = _STATUSES.get(type(error))
            return error
        finally:
            self._body.release()

    async def _requests(self, handler: Handler) -> AsyncIterator[Any]:
        if handler.request_deserializer is None:
            return
        try:
            async for line in self._body.lines():
                yield await self._read(line)
        except EditCriticError as error:
            self._status = _STATUSES.get(type(error))
            yield error

    async def _read(self, data: bytes) -> Message:
        return await self._apart(len(data), lambda: read_message(data, self._method.input_type))

    async def _written(self, message: Message, *, in_line: bool = False) -> bytes:
        size = message.ByteSize()
        if size > self._max_bytes:
            raise Overloaded(f"the answer has {size:,} bytes; at most {self._max_bytes:,} are sent.")

        def write() -> bytes:
            told = write_message(message)
            return write_json({"result": told} if in_line else told)

        return await self._apart(size, write)

    async def _apart(self, size: int, work: Callable[[], _Result]) -> _Result:
        if size < _SMALL_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _incident(error: Exception) -> ServerFault:
    incident = uuid.uuid4().hex[:12]
    _log.error("incident %s", incident, exc_info=error)
    return ServerFault(
        f"the server is at fault (incident {incident}); its log has the story.",
        reason=pb.ERROR_REASON_INTERNAL,
        metadata={"incident": incident},
    )


def stopping() -> ServerUnavailable:
    """What calls are told by a server that stops."""
    return ServerUnavailable(
        "the server is stopping; call another, or this one a little later.",
        reason=pb.ERROR_REASON_SHUTTING_DOWN,
        retry_after_s=1.0,
    )
