"""The queue of one critic: batches as large as what waits, and no work for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from editcritic.server.batcher import Admission, Batcher, Ticket
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Overloaded, ServerFault

PIXELS = np.zeros((8, 8, 3), np.uint8)
EDIT = DecodedEdit("e", PIXELS, np.ones((8, 8), np.float32))


class RecordingExecutor:
    """Answers when told to, and keeps the batches that it was handed."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.outcome: Callable[[str], Outcome] = lambda name: pb.Critique(candidate_id=name)

    async def prepare(self, edit: DecodedEdit) -> Any:
        return None

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        self.batches.append([task.candidate.candidate_id for task in tasks])
        await self.may_answer.wait()
        return [self.outcome(task.candidate.candidate_id) for task in tasks]


@pytest.fixture
def executor() -> RecordingExecutor:
    return RecordingExecutor()


@pytest.fixture
async def batcher(executor: RecordingExecutor) -> AsyncIterator[Batcher]:
    one_worker = Batcher(executor, workers=1, max_batch=3)
    yield one_worker
    await one_worker.close()


def ticket(name: str) -> Ticket:
    return Ticket(CritiqueTask(EDIT, None, DecodedCandidate(name, PIXELS)))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def submit(batcher: Batcher, names: str) -> list[asyncio.Task[pb.Critique]]:
    tasks = [asyncio.create_task(batcher.submit(ticket(name))) for name in names]
    await settled()
    return tasks


async def test_what_waits_is_batched_up_to_the_limit(batcher: Batcher, executor: RecordingExecutor) -> None:
    first = await submit(batcher, "a")
    rest = await submit(batcher, "bcdef")
    executor.may_answer.set()
    critiques = await asyncio.gather(*first, *rest)
    assert executor.batches == [["a"], ["b", "c", "d"], ["e", "f"]]
    assert [critique.candidate_id for critique in critiques] == list("abcdef")


async def test_what_waits_is_shared_among_workers(executor: RecordingExecutor) -> None:
    two_workers = Batcher(executor, workers=2, max_batch=16)
    busy = await submit(two_workers, "a") + await submit(two_workers, "b")
    waiting = await submit(two_workers, "cdef")
    executor.may_answer.set()
    await asyncio.gather(*busy, *waiting)
    await two_workers.close()
    assert executor.batches[:3] == [["a"], ["b"], ["c", "d"]]


async def test_work_that_nobody_waits_for_is_never_started(
    batcher: Batcher, executor: RecordingExecutor
) -> None:
    running = await submit(batcher, "a")
    left, stays = await submit(batcher, "bc")
    left.cancel()
    executor.may_answer.set()
    await asyncio.gather(*running, stays)
    assert executor.batches == [["a"], ["c"]]


async def test_a_failed_task_raises_its_error_and_its_batch_mates_are_answered(
    batcher: Batcher, executor: RecordingExecutor
) -> None:
    executor.outcome = lambda name: ServerFault("no") if name == "b" else pb.Critique(candidate_id=name)
    executor.may_answer.set()
    first, second, third = await submit(batcher, "abc")
    with pytest.raises(ServerFault):
        await second
    assert [(await task).candidate_id for task in (first, third)] == ["a", "c"]


async def test_an_executor_that_breaks_fails_its_batch_and_the_next_one_runs(
    batcher: Batcher, executor: RecordingExecutor
) -> None:
    def explode(name: str) -> Outcome:
        raise RuntimeError(name)

    executor.outcome = explode
    executor.may_answer.set()
    (broken,) = await submit(batcher, "a")
    with pytest.raises(RuntimeError):
        await broken
    executor.outcome = lambda name: pb.Critique(candidate_id=name)
    (fine,) = await submit(batcher, "b")
    assert (await fine).candidate_id == "b"


def test_room_is_taken_whole_or_not_at_all() -> None:
    admission = Admission(max_count=2, max_bytes=100)
    admission.reserve(1, 60)
    with pytest.raises(Overloaded):
        admission.reserve(1, 60)
    admission.reserve(1, 40)
    with pytest.raises(Overloaded):
        admission.reserve(1, 0)
    admission.release(1, 40)
    admission.reserve(1, 40)
    assert (admission.count, admission.byte_count) == (2, 100)
