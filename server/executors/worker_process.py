"""One process of a critic, seen from the server: started, asked, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from editcritic.server.executors.frames import Frame, receive, send
from editcritic.server.executors.memory import process_byte_count
from editcritic.server.executors.wire import raise_failure
from editcritic.server.executors.worker_command import WorkerCommand, worker_environment
from editcritic.v1 import critic_pb2 as pb

__all__ = ["EndCause", "WorkerEnded", "WorkerProcess"]

EndCause: TypeAlias = Literal["died", "memory", "hung", "stopped"]

_log = logging.getLogger(__name__)
_MAX_ANSWER_BYTES = 2**28
_BUFFER_BYTES = 2**20
_LOADING_TIMEOUT_S = 1800.0
_STOPPING_TIMEOUT_S = 2.0
_LOOK_EVERY_S = 0.05
_LAST_LINES = 12
_LAST_WORDS_S = 0.2
_MAX_LINE_BYTES = 2**16


class WorkerEnded(Exception):
    """The process ended before it answered.

    Attributes:
        cause: why: by itself, over its memory, because it did not come back, or as it was told.
    """

    def __init__(self, cause: EndCause, told: str = "") -> None:
        super().__init__(told or cause)
        self.cause: EndCause = cause


class WorkerProcess:
    """A process that has one critic loaded, once `start` returned.

    Args:
        command: what to start.
        on_end: told once when it is over, before whoever waits for an answer is.

    Attributes:
        edits: what it prepared or is preparing, by the edit's number.
        answered: requests that it answered.
        ready_at: when it was ready, by the monotonic clock.
    """

    def __init__(self, command: WorkerCommand, on_end: Callable[[WorkerProcess, EndCause], None]) -> None:
        self._command, self._on_end = command, on_end
        self.edits: dict[int, asyncio.Future[Any]] = {}
        self.answered = 0
        self.ready_at = 0.0
        self._cause: EndCause | None = None
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Frame]] = {}
        self._outbox: asyncio.Queue[Frame] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._ending: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it may be asked."""
        return self._cause is None

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def byte_count(self) -> int:
        """Memory that it holds."""
        return process_byte_count(self._process.pid) if self.is_alive else 0

    async def start(self) -> pb.CriticInfo:
        """Start it and wait until its critic is loaded.

        Raises:
            EditCriticError: the critic cannot be loaded, in its own words. WorkerEnded: the process ended before.
            OSError: it cannot be started at all.
        """
        self._connection, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        ready = self._pending[0] = asyncio.get_running_loop().create_future()
        try:
            self._process = await asyncio.to_thread(self._spawn, theirs, lifeline)
        except BaseException:
            self._connection.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        self._connection.setblocking(False)
        for work in (self._receive(), self._send(), self._watch(), self._read_lines()):
            self._tasks.append(asyncio.create_task(work))
        return await self._loaded(ready)

    async def _loaded(self, ready: asyncio.Future[Frame]) -> pb.CriticInfo:
        try:
            answer = raise_failure(await asyncio.wait_for(ready, _LOADING_TIMEOUT_S))
        except asyncio.TimeoutError as error:
            await self.end("hung")
            raise WorkerEnded("hung", f"did not load within {_LOADING_TIMEOUT_S:g} s") from error
        except WorkerEnded as ended:
            await self.end(ended.cause)
            raise WorkerEnded(ended.cause, self._story(ended.cause)) from None
        except BaseException:
            await self.end("stopped")
            raise
        self.ready_at = time.monotonic()
        return pb.CriticInfo.FromString(bytes(answer.parts[0]))

    def next_number(self) -> int:
        """A number for a request."""
        return next(self._numbers)

    async def ask(self, frame: Frame) -> Frame:
        """The answer to a request.

        Raises:
            EditCriticError: the answer is one. WorkerEnded: the process ended before.
        """
        if self._cause is not None:
            raise WorkerEnded(self._cause)
        answer = self._pending[frame.number] = asyncio.get_running_loop().create_future()
        self._outbox.put_nowait(frame)
        try:
            return raise_failure(await answer)
        finally:
            self._pending.pop(frame.number, None)

    def tell(self, frame: Frame) -> None:
        """Send what has no answer."""
        if self.is_alive:
            self._outbox.put_nowait(frame)

    def over(self, cause: EndCause) -> None:
        """End it, whatever it does; whoever waits for an answer is told. Safe to call twice."""
        if self._cause is not None:
            return
        self._cause = cause
        self._ending = asyncio.ensure_future(self._end(gently=cause == "stopped"))
        self._on_end(self, cause)
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(WorkerEnded(cause))
                # Whoever waited may have left.
                answer.exception()

    async def end(self, cause: EndCause = "stopped") -> None:
        """End it and wait until it is gone; gently when it is stopped."""
        self.over(cause)
        if self._ending is not None:
            await asyncio.shield(self._ending)

    def _spawn(self, theirs: socket.socket, lifeline: int) -> subprocess.Popen[bytes]:
        for each in (self._connection, theirs):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        # In a session of its own: Ctrl-C at the server's terminal must not end it before its last candidate.
        return subprocess.Popen(  # noqa: S603 - the interpreter is the operator's choice
            self._command.arguments(lifeline),
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(lifeline,),
            env=worker_environment(self._command.hosting.python, os.environ),
            start_new_session=True,
        )

    async def _receive(self) -> None:
        try:
            while True:
                frame = await receive(self._connection, _MAX_ANSWER_BYTES)
                self.answered += frame.number > 0
                answer = self._pending.get(frame.number)
                if answer is not None and not answer.done():
                    answer.set_result(frame)
        except OSError:
            self.over("died")
        except (ValueError, KeyError, TypeError):
            _log.exception("the process of the critic %s does not make sense", self._command.name)
            self.over("died")

    async def _send(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                await send(self._connection, await self._outbox.get())
        self.over("died")

    async def _watch(self) -> None:
        most = self._command.hosting.memory_bytes
        while self._process.poll() is None:
            if most and process_byte_count(self._process.pid) > most:
                self.over("memory")
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        # Usually the connection tells first, unless a child of the process holds it; what it said last is to be read.
        await asyncio.sleep(_LAST_WORDS_S)
        self.over("died")

    async def _read_lines(self) -> None:
        reader = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        try:
            while chunk := await reader.read(_MAX_LINE_BYTES):
                for line in chunk.decode(errors="replace").splitlines():
                    self._lines.append(line)
                    _log.info("%s: %s", self._command.name, line)
        finally:
            transport.close()

    async def _end(self, *, gently: bool) -> None:
        *talking, reading = self._tasks
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        # The process ends with its connection.
        self._connection.close()
        if gently:
            await self._exited(_STOPPING_TIMEOUT_S)
        # All of its session, for what it may have started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        os.close(self._lifeline)
        await asyncio.wait({reading}, timeout=_STOPPING_TIMEOUT_S)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if self._process.stdout is not None:
            self._process.stdout.close()
        if not gently:
            _log.error("%s", self._story(self._cause))

    async def _exited(self, timeout_s: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, timeout_s)

    def _story(self, cause: EndCause | None) -> str:
        most = self._command.hosting.memory_bytes
        why = {
            "memory": f"went over its memory of {most / 2**20:,.0f} MiB",
            "hung": "did not come back and was ended",
        }.get(cause or "", f"ended by itself (exit code {self._process.returncode})")
        last = " | ".join(self._lines)
        return f"the process of the critic {self._command.name!r} {why}{'; its last words: ' if last else ''}{last}"
