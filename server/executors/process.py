"""Runs a critic in a process of its own, which a supervisor keeps alive.

Judging changes nothing, so what was in hand when the process ended is judged once more by the next one, each candidate
alone: one that breaks the process costs itself and not its batch mates.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.device import Devices, Flow
from editcritic.server.executors.frames import Frame
from editcritic.server.executors.supervisor import Supervisor
from editcritic.server.executors.waiting import turn, until
from editcritic.server.executors.wire import edit_frame, read_outcomes, tasks_frame
from editcritic.server.executors.worker_command import WorkerCommand
from editcritic.server.executors.worker_process import WorkerEnded, WorkerProcess
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import (
    Cancelled,
    DeadlineExceeded,
    EditCriticError,
    Overloaded,
    ServerFault,
)

__all__ = ["ProcessExecutor", "RemoteEdit"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@dataclass(eq=False)
class RemoteEdit:
    """What the server holds of an edit that a critic's process has prepared.

    Attributes:
        number: its name in the process.
        edit: to send it again to another process.
        nbytes: memory that it takes there.
    """

    number: int
    edit: DecodedEdit
    nbytes: int = 0


class ProcessExecutor:
    """A critic in its own process; see `HostedExecutor` for what it is asked.

    Args:
        command: what to start.
        devices: where the process takes its turns with critics of the server, once it told its device.
        budget_s: longest time of one edit's preparation.

    Attributes:
        info: of the critic, once started.
        vitals: for metrics.
    """

    def __init__(self, command: WorkerCommand, devices: Devices, budget_s: float) -> None:
        self._command, self._devices, self._budget_s = command, devices, budget_s
        self._supervisor = supervisor = Supervisor(command)
        self.info, self.vitals = supervisor.info, supervisor.vitals
        self.start, self.wake = supervisor.start, supervisor.wake
        self.sleep, self.close = supervisor.sleep, supervisor.close
        self._numbers = itertools.count(1)

    @property
    def on_health(self) -> Callable[[bool], None]:
        """Told whether the critic is ready, when that changes."""
        return self._supervisor.on_health

    @on_health.setter
    def on_health(self, tell: Callable[[bool], None]) -> None:
        self._supervisor.on_health = tell

    async def prepare(self, edit: DecodedEdit) -> RemoteEdit:
        """Have the process prepare an edit and keep it as long as the answer is held.

        Raises:
            EditCriticError: the critic refuses the edit, or failed on it.
        """
        held = RemoteEdit(next(self._numbers), edit)
        weakref.finalize(held, self._let_go, asyncio.get_running_loop(), held.number).atexit = False
        is_late = _past(time.monotonic() + self._budget_s)

        async def prepare_once() -> None:
            await self._in_turn("prepare", lambda worker: self._prepare(worker, held), is_late)

        try:
            await _twice(prepare_once)
        except WorkerEnded as ended:
            raise self._told(ended) from ended
        return held

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """Have the process judge; what fails becomes that task's outcome."""
        try:
            return await self._judge(tasks, is_cancelled)
        except WorkerEnded as ended:
            if not _is_worth_another(ended):
                return [self._told(ended)] * len(tasks)
        except EditCriticError as error:
            return [error] * len(tasks)
        return [await self._judge_alone(task, is_cancelled) for task in tasks]

    async def _judge_alone(self, task: CritiqueTask, is_cancelled: Callable[[], bool]) -> Outcome:
        try:
            return (await self._judge([task], is_cancelled))[0]
        except WorkerEnded as ended:
            return self._told(ended)
        except EditCriticError as error:
            return error

    async def _judge(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        return await self._in_turn(
            "judge", lambda worker: self._judge_on(worker, tasks, is_cancelled), is_cancelled
        )

    async def _judge_on(
        self, worker: WorkerProcess, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        refused: dict[int, EditCriticError] = {}
        for held in {task.prepared.number: task.prepared for task in tasks}.values():
            try:
                await self._prepare(worker, held)
            except EditCriticError as error:
                refused[held.number] = error
        asked = [(task.prepared.number, task) for task in tasks if task.prepared.number not in refused]
        judged: list[Outcome] = []
        if asked:
            frame = await self._ask(worker, lambda number: tasks_frame(number, asked), is_cancelled)
            judged = read_outcomes(frame, len(asked))
        each = iter(judged)
        return [refused.get(task.prepared.number) or next(each) for task in tasks]

    async def _prepare(self, worker: WorkerProcess, held: RemoteEdit) -> None:
        """Have this very process know an edit; it may be another than the one that knew it first."""
        preparing = worker.edits.get(held.number)
        if preparing is None:
            asking = self._ask(
                worker,
                lambda number: edit_frame(number, held.number, held.edit),
                _past(time.monotonic() + self._budget_s),
            )
            preparing = worker.edits[held.number] = asyncio.ensure_future(asking)
            preparing.add_done_callback(lambda done: _forget_failed(worker, held.number, done))
        held.nbytes = (await asyncio.shield(preparing)).told["byte_count"]

    async def _in_turn(
        self,
        flow: Flow,
        work: Callable[[WorkerProcess], Awaitable[_Result]],
        is_cancelled: Callable[[], bool],
    ) -> _Result:
        """Work with a process that lives, on a place of its device. No place is held while the process starts."""
        while True:
            await self._supervisor.alive(is_cancelled)
            async with turn(self._devices.device(self.info.device), flow):
                worker = self._supervisor.worker
                if worker is not None and worker.is_alive:
                    return await work(worker)

    async def _ask(
        self, worker: WorkerProcess, make: Callable[[int], Frame], is_cancelled: Callable[[], bool]
    ) -> Frame:
        """An answer of the process. One that does not come back once nobody waits any more is ended."""
        number = worker.next_number()
        asking = asyncio.ensure_future(worker.ask(make(number)))
        try:
            return await until(asking, is_cancelled)
        except Cancelled:
            worker.tell(Frame("cancel", number))
            await asyncio.wait({asking}, timeout=self._command.hosting.hang_after_s)
            if asking.done():
                return asking.result()
            worker.over("hung")
            raise DeadlineExceeded(
                f"the critic {self._command.name!r} did not come back in time; its process was ended.",
                reason=pb.ERROR_REASON_BUDGET_EXCEEDED,
            ) from None
        finally:
            asking.cancel()

    def _let_go(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        # Called by the garbage collector, in any thread and also after the loop's end.
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._forget, number)

    def _forget(self, number: int) -> None:
        worker = self._supervisor.worker
        if worker is not None and worker.edits.pop(number, None) is not None:
            worker.tell(Frame("forget", told={"edit": number}))

    def _told(self, ended: WorkerEnded) -> EditCriticError:
        """The end of a process as the error of what it had in hand."""
        incident, name = uuid.uuid4().hex[:12], self._command.name
        _log.error("incident %s: the process of the critic %s ended (%s)", incident, name, ended)
        if ended.cause == "memory":
            return Overloaded(
                f"the critic {name!r} went over its memory (incident {incident}); send a smaller crop.",
                reason=pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY,
                metadata={"incident": incident},
            )
        if ended.cause == "stopped":
            return self._supervisor.refusal()
        return ServerFault(
            f"the process of the critic {name!r} broke down twice on this (incident {incident}).",
            reason=pb.ERROR_REASON_CRITIC_FAILED,
            metadata={"incident": incident},
        )


def _is_worth_another(ended: WorkerEnded) -> bool:
    """Whether the next process may do better."""
    return ended.cause in ("died", "hung")


async def _twice(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except WorkerEnded as ended:
        if not _is_worth_another(ended):
            raise
        await work()


def _past(when: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > when


def _forget_failed(worker: WorkerProcess, number: int, done: asyncio.Future[Any]) -> None:
    # Asking for the exception also says that nobody needs to be told of it.
    if done.cancelled() or done.exception() is not None:
        worker.edits.pop(number, None)
