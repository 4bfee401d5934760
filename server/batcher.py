"""Collects the candidates that wait for one critic and hands them over in batches.

A batch is made when the device has a place for it, of what waits then: as large as a worker's share, up to a size that
keeps it within a target time. Nothing waits for company unless the critic gains by it, the device is free, and more
candidates are being decoded. Work that nobody waits for any more, or whose time has passed, is never started; running
work is told through `is_cancelled`. Every critique of the server comes through `Batcher._run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from editcritic.server.batch_size import BatchSize
from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.device import Device, Place
from editcritic.server.queueing import Ticket, TicketQueue
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded, EditCriticError

__all__ = ["Batcher", "Executor"]

# Turns of the event loop from a place that is free to the next batch in the critic's hands.
_STEPS_TO_BEGIN = 4


class Executor(Protocol):
    """Where a critic runs: in this process, or somewhere else."""

    async def prepare(self, edit: DecodedEdit) -> Any:
        """What the critic keeps of an edit."""

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """One outcome for each task, in order; never raises for a fault of a task."""


class Batcher:
    """One critic's queue, and the task that works it off.

    Args:
        executor: where the critic runs.
        device: whose places it needs; one batch on each.
        size: most candidates of one batch.
        wait_s: longest time that a batch waits for candidates that are being decoded.
    """

    def __init__(self, executor: Executor, device: Device, size: BatchSize, wait_s: float = 0.0) -> None:
        self._executor, self._device = executor, device
        self._size, self._wait_s = size, wait_s
        self._queue = TicketQueue()
        self._expected = 0
        self._news = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._dispatcher = asyncio.create_task(self._dispatch())

    @property
    def waiting_count(self) -> int:
        """Candidates that are not judged yet."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._running and len(self._queue) == 0

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """A candidate is on its way to `submit`, as long as the block lasts."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._news.set()

    async def prepare(self, edit: DecodedEdit) -> Any:
        """`Executor.prepare` on a place of the device. Cancelling the wait takes it back unless it has begun.

        Raises:
            EditCriticError: the critic refuses the edit, or failed on it.
        """
        place = await self._device.enter("prepare")
        work = asyncio.ensure_future(self._executor.prepare(edit))

        def leave(done: asyncio.Future[Any]) -> None:
            place.leave()
            # A failure that nobody waits for any more is no news for the log.
            _ = done.cancelled() or done.exception()

        work.add_done_callback(leave)
        # Shielded: a thread cannot be called back, and its place is taken until it is done.
        return await asyncio.shield(work)

    async def submit(self, ticket: Ticket) -> pb.Critique:
        """Wait for a task's critique. Cancelling the wait takes the task back.

        Raises:
            EditCriticError: why the task could not be judged.
        """
        self._queue.add(ticket)
        self._news.set()
        try:
            outcome = await ticket.answer
        finally:
            ticket.abandoned = True
            if ticket.started is None:
                self._queue.discard(ticket)
        if isinstance(outcome, EditCriticError):
            raise outcome
        return _timed(outcome, ticket)

    async def close(self) -> None:
        """Stop; what waits is never judged. Safe to call twice."""
        tasks = [self._dispatcher, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Whoever still holds the queue must not hold a model's memory with it.
        vars(self).pop("_executor", None)

    async def _dispatch(self) -> None:
        while True:
            await self._until(lambda: len(self._queue) > 0)
            if self._device.is_free:
                await self._gather()
            place = await self._device.enter("judge")
            batch = self._next_batch()
            if not batch:
                place.leave()
                continue
            task = asyncio.create_task(self._run(batch, place))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _gather(self) -> None:
        """Wait for candidates that are on their way, while the batch has room for them."""

        def is_whole() -> bool:
            return self._expected == 0 or len(self._queue) >= self._size.current

        if not is_whole():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._until(is_whole), self._wait_s)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._news.clear()
            await self._news.wait()

    def _next_batch(self) -> list[Ticket]:
        batch: list[Ticket] = []
        size = min(self._size.current, math.ceil(len(self._queue) / self._device.places))
        while len(batch) < size and (ticket := self._queue.take()) is not None:
            ticket.started = time.monotonic()
            if ticket.is_live:
                batch.append(ticket)
            else:
                _answer(ticket, _too_late())
        return batch

    async def _run(self, batch: Sequence[Ticket], place: Place) -> None:
        began = time.monotonic()
        try:
            tasks = [ticket.task for ticket in batch]
            outcomes: Sequence[Outcome | Exception]
            outcomes = await self._executor.critique(tasks, partial(_nobody_waits, batch))
        except Exception as error:
            outcomes = [error] * len(batch)
        finally:
            place.leave()
        self._size.note(len(batch), time.monotonic() - began)
        if len(self._queue):
            await _next_batch_first()
        for ticket, outcome in zip(batch, outcomes, strict=True):
            _answer(ticket, outcome)


async def _next_batch_first() -> None:
    """Let the next batch begin: what follows from answers would keep the loop from it, and the device idle."""
    for _ in range(_STEPS_TO_BEGIN):
        await asyncio.sleep(0)


def _timed(critique: pb.Critique, ticket: Ticket) -> pb.Critique:
    started = ticket.started or ticket.arrived
    critique.timings.queue_ms = (started - ticket.arrived) * 1000
    critique.timings.critique_ms = (time.monotonic() - started) * 1000
    return critique


def _nobody_waits(batch: Sequence[Ticket]) -> bool:
    return not any(ticket.is_live for ticket in batch)


def _answer(ticket: Ticket, outcome: Outcome | Exception) -> None:
    if ticket.answer.done():
        return
    if isinstance(outcome, Exception) and not isinstance(outcome, EditCriticError):
        ticket.answer.set_exception(outcome)
    else:
        ticket.answer.set_result(outcome)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the time for this candidate passed before its turn came.", reason=pb.ERROR_REASON_BUDGET_EXCEEDED
    )
