"""Keeps a critic's process alive: starts it, and again when it ends, ever more rarely when it does not stay."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from editcritic.server.executors.hosted import Vitals
from editcritic.server.executors.waiting import forever, until
from editcritic.server.executors.worker_command import WorkerCommand
from editcritic.server.executors.worker_process import EndCause, WorkerEnded, WorkerProcess
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, ServerUnavailable

__all__ = ["Supervisor"]

_log = logging.getLogger(__name__)
GIVE_UP_AFTER = 5
"""Quick ends in a row after which the critic is no longer ready."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 30.0
_QUICK_S = 30.0


class Supervisor:
    """One critic's process, whichever that is at the time.

    Args:
        command: what to start.

    Attributes:
        worker: the process; None while there is none.
        info: of the critic, once started; its state is kept up to date.
        vitals: for metrics.
        on_health: told whether the critic is ready, when that changes.
    """

    def __init__(self, command: WorkerCommand) -> None:
        self._command = command
        self.worker: WorkerProcess | None = None
        self.info = pb.CriticInfo()
        self.vitals = Vitals(byte_count=lambda: self.worker.byte_count if self.worker else 0)
        self.on_health: Callable[[bool], None] = lambda _is_ready: None
        self._starting: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._fault: Exception | None = None
        self._quick_ends = 0
        self._is_wanted = True
        self._is_closed = False

    async def start(self) -> None:
        """Start the process.

        Raises:
            EditCriticError: its critic cannot be loaded, or it ended `GIVE_UP_AFTER` times.
        """
        try:
            await self.wake()
        except ServerUnavailable as refusal:
            await self.close()
            raise self._fault if isinstance(self._fault, EditCriticError) else refusal from self._fault
        except BaseException:
            await self.close()
            raise

    async def wake(self) -> None:
        """Start the process again.

        Raises:
            ServerUnavailable: it does not start.
        """
        self._is_wanted = True
        await self.alive(forever)

    async def sleep(self) -> None:
        """Stop the process. One that fails to start is left to try."""
        if self.info.state == pb.CRITIC_STATE_FAILING:
            return
        self._is_wanted = False
        await self._stop()
        self._quick_ends = 0
        self.info.state = pb.CRITIC_STATE_ASLEEP

    async def close(self) -> None:
        """Stop the process for good. Safe to call twice."""
        self._is_closed, self._is_wanted = True, False
        await self._stop()
        self._news.set()

    async def alive(self, is_cancelled: Callable[[], bool]) -> None:
        """Return once there is a process.

        Raises:
            ServerUnavailable: there will be none soon. Cancelled: nobody waits any more.
        """
        while self.worker is None or not self.worker.is_alive:
            if self._is_closed or self.info.state == pb.CRITIC_STATE_FAILING:
                raise self.refusal()
            self._keep_alive()
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            try:
                await until(news, is_cancelled)
            finally:
                news.cancel()

    def _keep_alive(self) -> None:
        if self._is_wanted and (self._starting is None or self._starting.done()):
            self._starting = asyncio.create_task(self._start_until_it_lives())

    async def _start_until_it_lives(self) -> None:
        while True:
            self._note_state()
            await asyncio.sleep(self._pause_s)
            worker = WorkerProcess(self._command, self._ended)
            try:
                info = await worker.start()
            except (EditCriticError, WorkerEnded, OSError) as error:
                self._quick_ends += 1
                if _will_fail_again(error):
                    self._quick_ends = max(self._quick_ends, GIVE_UP_AFTER)
                self._fault = error
            else:
                if worker.is_alive:
                    return self._serve_with(worker, info)
                self._quick_ends += 1
            _log.error("the critic %s did not start (%d in a row): %s", *self._failure)

    @property
    def _failure(self) -> tuple[str, int, Exception | None]:
        return self._command.name, self._quick_ends, self._fault

    def _serve_with(self, worker: WorkerProcess, info: pb.CriticInfo) -> None:
        known, told = self.info.identity.version, info.identity.version
        if known not in ("", told):
            _log.warning("the critic %s came back as version %s, not %s", self._command.name, told, known)
        was_failing = self.info.state == pb.CRITIC_STATE_FAILING
        self.info.CopyFrom(info)
        self.info.state = pb.CRITIC_STATE_AWAKE
        self.worker = worker
        self._news.set()
        if was_failing:
            self.on_health(True)

    def _note_state(self) -> None:
        if self._quick_ends < GIVE_UP_AFTER:
            self.info.state = pb.CRITIC_STATE_WAKING
        elif self.info.state != pb.CRITIC_STATE_FAILING:
            _log.error("the critic %s is not ready: its process ended %d times in a row", *self._failure[:2])
            self.info.state = pb.CRITIC_STATE_FAILING
            self.on_health(False)
        self._news.set()

    @property
    def _pause_s(self) -> float:
        return (
            0.0 if not self._quick_ends else min(FIRST_PAUSE_S * 2.0 ** (self._quick_ends - 1), MAX_PAUSE_S)
        )

    def _ended(self, worker: WorkerProcess, cause: EndCause) -> None:
        if cause != "stopped":
            self.vitals.ends[cause] += 1
        if self.worker is not worker:
            return
        self.worker = None
        is_quick = not worker.answered and time.monotonic() - worker.ready_at < _QUICK_S
        self._quick_ends = self._quick_ends + 1 if is_quick else 0
        self._keep_alive()

    async def _stop(self) -> None:
        starting, worker, self._starting, self.worker = self._starting, self.worker, None, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        if worker is not None:
            await worker.end()

    def refusal(self) -> ServerUnavailable:
        """Why there is no process, and when to try again."""
        return ServerUnavailable(
            f"the critic {self._command.name!r} is not available:"
            f" {'it was stopped' if self._is_closed else 'its process does not stay up; the log says why'}.",
            reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
            retry_after_s=max(self._pause_s, 1.0),
        )


def _will_fail_again(error: Exception) -> bool:
    """Whether another start at once would end like this one: a critic that cannot be loaded, or not in its memory."""
    return isinstance(error, EditCriticError) or (isinstance(error, WorkerEnded) and error.cause == "memory")
