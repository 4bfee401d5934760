"""Collects the candidates that wait for one critic and hands them over in batches.

A batch is as large as a worker's share of what is waiting: no delay is added to make it larger.
Work that nobody waits for any more is never started, and running work is told through `is_cancelled`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, Overloaded

__all__ = ["Admission", "Batcher", "Executor", "Ticket"]

RETRY_AFTER_S = 1.0


class Executor(Protocol):
    """Where a critic runs: in this process, or somewhere else."""

    async def prepare(self, edit: DecodedEdit) -> Any:
        """What the critic keeps of an edit."""

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """One outcome for each task, in order; never raises for a fault of a task."""


class Admission:
    """Bounds what waits and runs over all callers, in items and in bytes.

    Args:
        max_count: most items.
        max_bytes: most bytes.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max = (max_count, max_bytes)
        self.count = 0
        self.byte_count = 0

    def reserve(self, count: int, byte_count: int) -> None:
        """Take room, to be given back with `release`.

        Raises:
            Overloaded: there is not enough; nothing was taken.
        """
        if self.count + count > self._max[0] or self.byte_count + byte_count > self._max[1]:
            raise Overloaded(
                f"the server is full: {self.count} of {self._max[0]} candidates and"
                f" {self.byte_count:,} of {self._max[1]:,} bytes are waiting.",
                reason=pb.ERROR_REASON_QUEUE_FULL,
                retry_after_s=RETRY_AFTER_S,
            )
        self.count += count
        self.byte_count += byte_count

    def release(self, count: int, byte_count: int) -> None:
        """Give room back."""
        self.count -= count
        self.byte_count -= byte_count


@dataclass(eq=False)
class Ticket:
    """A task's place in the queue.

    Attributes:
        task: what is to be judged.
        arrived: when it was submitted, by the monotonic clock.
        started: when a worker took it; None while it waits.
        abandoned: nobody waits for the answer any more.
        answer: what it came to.
    """

    task: CritiqueTask
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    abandoned: bool = False
    answer: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Batcher:
    """One critic's queue and the tasks that work it off.

    Args:
        executor: where the critic runs.
        workers: batches that may run at the same time.
        max_batch: most candidates of one batch.
    """

    def __init__(self, executor: Executor, *, workers: int, max_batch: int) -> None:
        self._executor = executor
        self._max_batch = max_batch
        self._waiting: deque[Ticket] = deque()
        self._arrival = asyncio.Condition()
        self._workers = workers
        self._runners = [asyncio.create_task(self._work_off()) for _ in range(workers)]

    async def submit(self, ticket: Ticket) -> pb.Critique:
        """Wait for a task's critique. Cancelling the wait takes the task back.

        Raises:
            EditCriticError: why the task could not be judged.
        """
        async with self._arrival:
            self._waiting.append(ticket)
            self._arrival.notify()
        try:
            outcome = await ticket.answer
        finally:
            ticket.abandoned = True
        if isinstance(outcome, EditCriticError):
            raise outcome
        return self._timed(outcome, ticket)

    async def close(self) -> None:
        """Stop the workers; what waits is never judged."""
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)

    async def _work_off(self) -> None:
        while True:
            batch = await self._next_batch()
            try:
                tasks = [ticket.task for ticket in batch]
                outcomes = await self._executor.critique(tasks, partial(_all_abandoned, batch))
                for ticket, outcome in zip(batch, outcomes, strict=True):
                    _answer(ticket, outcome)
            except Exception as error:
                for ticket in batch:
                    _answer(ticket, error)

    async def _next_batch(self) -> list[Ticket]:
        async with self._arrival:
            while True:
                live = [ticket for ticket in self._waiting if not ticket.abandoned]
                size = min(self._max_batch, math.ceil(len(live) / self._workers))
                batch, rest = live[:size], live[size:]
                self._waiting = deque(rest)
                if batch:
                    break
                await self._arrival.wait()
            if rest:
                self._arrival.notify()
        for ticket in batch:
            ticket.started = time.monotonic()
        return batch

    @staticmethod
    def _timed(critique: pb.Critique, ticket: Ticket) -> pb.Critique:
        started = ticket.started or ticket.arrived
        critique.timings.queue_ms = (started - ticket.arrived) * 1000
        critique.timings.critique_ms = (time.monotonic() - started) * 1000
        return critique


def _all_abandoned(batch: Sequence[Ticket]) -> bool:
    return all(ticket.abandoned for ticket in batch)


def _answer(ticket: Ticket, outcome: Outcome | Exception) -> None:
    if ticket.answer.done():
        return
    if isinstance(outcome, Exception) and not isinstance(outcome, EditCriticError):
        ticket.answer.set_exception(outcome)
    else:
        ticket.answer.set_result(outcome)
