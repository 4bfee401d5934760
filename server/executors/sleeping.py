"""Puts a critic that nobody asked for a while to sleep, and wakes it for the next edit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.executors.hosted import HostedExecutor
from editcritic.server.executors.waiting import forever, until
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["SleepingExecutor"]

_log = logging.getLogger(__name__)


class SleepingExecutor:
    """An executor that sleeps; see `HostedExecutor` for what it is asked.

    Args:
        executor: the one that it puts to sleep.
        sleep_after_s: seconds without work before it does.
    """

    def __init__(self, executor: HostedExecutor, sleep_after_s: float) -> None:
        self._executor, self._sleep_after_s = executor, sleep_after_s
        self.info, self.vitals = executor.info, executor.vitals
        self._busy_count = 0
        self._is_asleep = False
        self._change: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def on_health(self) -> Callable[[bool], None]:
        """Told whether new edits may go to the critic, whenever that changes."""
        return self._executor.on_health

    @on_health.setter
    def on_health(self, tell: Callable[[bool], None]) -> None:
        self._executor.on_health = tell

    async def start(self) -> None:
        """Load the critic for the first time.

        Raises:
            EditCriticError: it cannot be loaded.
        """
        await self._executor.start()
        self._rest()

    async def close(self) -> None:
        """Release everything for good. Safe to call twice."""
        self._busy_count += 1  # for good
        self._stop_timer()
        if self._change is not None:
            self._change.cancel()
            await asyncio.gather(self._change, return_exceptions=True)
        await self._executor.close()

    async def wake(self) -> None:
        """Wake the critic; it sleeps again when nobody asks it.

        Raises:
            ServerUnavailable: it cannot be woken.
        """
        async with self._awake(forever):
            pass

    async def sleep(self) -> None:
        """Put the critic to sleep now, unless it works."""
        if not self._busy_count:
            await self._changed(self._fall_asleep)

    async def prepare(self, edit: DecodedEdit) -> Any:
        """As the executor does, once it is awake.

        Raises:
            EditCriticError: the critic refuses the edit, failed on it, or cannot be woken.
        """
        async with self._awake(forever):
            return await self._executor.prepare(edit)

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """As the executor does, once it is awake."""
        try:
            async with self._awake(is_cancelled):
                return await self._executor.critique(tasks, is_cancelled)
        except EditCriticError as error:
            return [error] * len(tasks)

    @contextlib.asynccontextmanager
    async def _awake(self, is_cancelled: Callable[[], bool]) -> AsyncIterator[None]:
        self._busy_count += 1
        self._stop_timer()
        try:
            while self._is_asleep or self._is_changing:
                await until(self._changing(self._wake_up), is_cancelled)
            yield
        finally:
            self._busy_count -= 1
            self._rest()

    @property
    def _is_changing(self) -> bool:
        return self._change is not None and not self._change.done()

    def _changing(self, change: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """The change that is under way, or else this one."""
        if self._change is None or self._change.done():
            self._change = asyncio.ensure_future(_run(change))
            # Whoever waited may have left; then nobody needs to be told.
            self._change.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._change

    async def _changed(self, change: Callable[[], Awaitable[None]]) -> None:
        await asyncio.shield(self._changing(change))

    async def _wake_up(self) -> None:
        if self._is_asleep:
            await self._executor.wake()
            self._is_asleep = False
            self.vitals.wakes += 1
            _log.info("the critic %s is awake", self.info.identity.name)

    async def _fall_asleep(self) -> None:
        if not self._is_asleep and not self._busy_count:
            self._is_asleep = True
            await self._executor.sleep()
            # One that fails to start stays up to try.
            self._is_asleep = self.info.state == pb.CRITIC_STATE_ASLEEP
            _log.info("the critic %s sleeps", self.info.identity.name)
            self._rest()

    def _rest(self) -> None:
        self._stop_timer()
        if not self._busy_count and not self._is_asleep:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._sleep_after_s, self._changing, self._fall_asleep)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def _run(change: Callable[[], Awaitable[None]]) -> None:
    await change()
