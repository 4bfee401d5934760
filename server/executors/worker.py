"""A critic's own process: loads one critic and judges what comes over the socket that is its standard input.

It ends with that socket, so nothing is left behind by a server that was killed. The critic runs as it would in the
server, on `LocalExecutor`; only the way of the arrays is another.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import Critic, DecodedEdit
from editcritic.server.executors.frames import Frame, receive, send
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.executors.memory import held_byte_count
from editcritic.server.executors.wire import failure, outcomes_frame, read_edit, read_tasks
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, ServerFault

__all__ = ["main", "serve"]

_log = logging.getLogger(__name__)
_MAX_REQUEST_BYTES = 2**34
_FAULT = ServerFault("the critic's process failed on a request.", reason=pb.ERROR_REASON_INTERNAL)
_MORE_LIKELY = b"500"
"""To be ended by the kernel than the server, should the machine run out of memory."""


def main(spec: str, threads: int, lifeline: int, load: Callable[[str], Critic] = load_critic) -> None:
    """Load the critic and serve until the server closes the socket.

    Args:
        spec: the critic's full name.
        threads: on which it judges.
        lifeline: the reading end of a pipe that the server never writes to and holds as long as it lives.
        load: makes the critic.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    _tie_to(lifeline)
    _confine()
    connection = _connection()
    asyncio.run(_serve_and_end(connection, spec, threads, load))


def _connection() -> socket.socket:
    """The socket that is standard input, out of the reach of libraries that read from there."""
    connection = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    connection.setblocking(False)
    return connection


def _tie_to(lifeline: int) -> None:
    """Have the kernel end this process with the server's, even while a library of the critic holds the interpreter."""
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _confine() -> None:
    # A model's memory as a file would fill the disk, and hold what callers sent.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as adjustment:
        adjustment.write(_MORE_LIKELY)


async def _serve_and_end(
    connection: socket.socket, spec: str, threads: int, load: Callable[[str], Critic]
) -> None:
    try:
        await _serve(connection, spec, threads, load)
    except OSError:
        pass
    except Exception:
        _log.exception("the critic's process ends")
    finally:
        # At once: threads that are still judging or loading would hold up any other end.
        os._exit(0)


async def _serve(connection: socket.socket, spec: str, threads: int, load: Callable[[str], Critic]) -> None:
    # Read from now on, so that a server that leaves while the model is loaded is noticed.
    loading = asyncio.ensure_future(asyncio.to_thread(load, spec))
    first = asyncio.ensure_future(receive(connection, _MAX_REQUEST_BYTES))
    await asyncio.wait({loading, first}, return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        return
    try:
        critic = loading.result()
    except Exception as error:
        _log.exception("the critic %r could not be loaded", spec)
        await send(connection, failure(0, _as_error(error)))
        return
    await send(connection, Frame("ready", 0, {}, [critic.info.SerializeToString()]))
    await serve(connection, critic, threads, first)


def _as_error(error: Exception) -> EditCriticError:
    if isinstance(error, EditCriticError):
        return error
    return ServerFault(f"{type(error).__name__}: {error}"[:500])


async def serve(
    connection: socket.socket, critic: Critic, threads: int, first: asyncio.Future[Frame]
) -> None:
    """Answer requests until the other side closes the connection.

    Args:
        connection: to the server.
        critic: who judges.
        threads: on which it judges.
        first: the first request, being read.

    Raises:
        ConnectionError: it closed.
    """
    worker = _Worker(connection, LocalExecutor(critic, ThreadPoolExecutor(threads, "critic")))
    frame = await first
    while True:
        worker.take(frame)
        frame = await receive(connection, _MAX_REQUEST_BYTES)


class _Worker:
    def __init__(self, connection: socket.socket, executor: LocalExecutor) -> None:
        self._connection, self._executor = connection, executor
        self._edits: dict[int, tuple[DecodedEdit, Any]] = {}
        self._asked: set[int] = set()
        self._cancelled: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()

    def take(self, frame: Frame) -> None:
        """Begin what a frame asks for."""
        if frame.kind == "cancel":
            self._cancelled |= {frame.number} & self._asked
        elif frame.kind == "forget":
            self._edits.pop(frame.told["edit"], None)
        else:
            self._asked.add(frame.number)
            task = asyncio.create_task(self._answer(frame))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _answer(self, frame: Frame) -> None:
        try:
            answer = await (self._prepare(frame) if frame.kind == "prepare" else self._critique(frame))
        except EditCriticError as error:
            answer = failure(frame.number, error)
        except Exception:
            _log.exception("a request of the server could not be answered")
            answer = failure(frame.number, _FAULT)
        self._asked.discard(frame.number)
        self._cancelled.discard(frame.number)
        with contextlib.suppress(OSError):
            async with self._sending:
                await send(self._connection, answer)

    async def _prepare(self, frame: Frame) -> Frame:
        edit = read_edit(frame)
        prepared = await self._executor.prepare(edit)
        self._edits[frame.told["edit"]] = (edit, prepared)
        return Frame("prepared", frame.number, {"byte_count": held_byte_count([edit, prepared])})

    async def _critique(self, frame: Frame) -> Frame:
        tasks = read_tasks(frame, self._edit_of)
        outcomes = await self._executor.critique(tasks, lambda: frame.number in self._cancelled)
        return outcomes_frame(frame.number, outcomes)

    def _edit_of(self, number: int, name: str) -> tuple[DecodedEdit, Any]:
        edit, prepared = self._edits[number]
        return replace(edit, edit_id=name), prepared
