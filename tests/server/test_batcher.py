"""The queue of one critic: batches as large as what waits, and no work for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from editcritic.server.batch_size import BatchSize
from editcritic.server.batcher import Batcher
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.device import Device
from editcritic.server.queueing import Ticket
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded, ServerFault

PIXELS = np.zeros((8, 8, 3), np.uint8)
EDIT = DecodedEdit("e", PIXELS, np.ones((8, 8), np.float32))


class RecordingExecutor:
    """Answers when told to, and keeps the batches that it was handed."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.prepared: list[str] = []
        self.is_cancelled: Callable[[], bool] = lambda: False
        self.may_answer = asyncio.Event()
        self.outcome: Callable[[str], Outcome] = lambda name: pb.Critique(candidate_id=name)

    async def prepare(self, edit: DecodedEdit) -> Any:
        self.prepared.append(edit.edit_id)

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        self.batches.append([task.candidate.candidate_id for task in tasks])
        self.is_cancelled = is_cancelled
        await self.may_answer.wait()
        return [self.outcome(task.candidate.candidate_id) for task in tasks]


@pytest.fixture
def executor() -> RecordingExecutor:
    return RecordingExecutor()


@pytest.fixture
async def batcher(executor: RecordingExecutor) -> AsyncIterator[Batcher]:
    one_worker = Batcher(executor, Device(1), BatchSize(3, target_s=60.0))
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


async def test_the_next_batch_begins_before_the_answers_of_this_one_are_told(
    batcher: Batcher, executor: RecordingExecutor
) -> None:
    begun: list[list[list[str]]] = []
    (first,) = await submit(batcher, "a")
    (second,) = await submit(batcher, "b")
    first.add_done_callback(lambda _done: begun.append(list(executor.batches)))
    executor.may_answer.set()
    await asyncio.gather(first, second)
    assert begun == [[["a"], ["b"]]]


async def test_what_waits_is_shared_among_workers(executor: RecordingExecutor) -> None:
    two_workers = Batcher(executor, Device(2), BatchSize(16, target_s=60.0))
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


async def test_a_batch_is_made_when_there_is_a_place_for_it_and_not_before(
    executor: RecordingExecutor,
) -> None:
    """What leaves while the device is busy is in no batch, and what comes late is in the next."""
    device = Device(1)
    batcher = Batcher(executor, device, BatchSize(4, target_s=60.0))
    busy = await device.enter("refine")
    left, stays = await submit(batcher, "ab")
    left.cancel()
    (late,) = await submit(batcher, "c")
    assert executor.batches == []
    busy.leave()
    executor.may_answer.set()
    await asyncio.gather(stays, late)
    await batcher.close()
    assert executor.batches == [["b", "c"]]


async def test_work_whose_time_has_passed_is_never_started(
    batcher: Batcher, executor: RecordingExecutor
) -> None:
    running = await submit(batcher, "a")
    late = ticket("late")
    late.deadline = late.arrived
    waiting = asyncio.create_task(batcher.submit(late))
    (other,) = await submit(batcher, "b")
    executor.may_answer.set()
    with pytest.raises(DeadlineExceeded):
        await waiting
    await asyncio.gather(*running, other)
    assert executor.batches == [["a"], ["b"]]


async def test_running_work_is_told_once_nobody_waits_or_its_time_has_passed(
    batcher: Batcher, executor: RecordingExecutor
) -> None:
    first, second = ticket("a"), ticket("b")
    tasks = [asyncio.create_task(batcher.submit(each)) for each in (first, second)]
    await settled()
    assert executor.batches == [["a", "b"]]
    assert not executor.is_cancelled()
    tasks[0].cancel()
    await settled()
    assert not executor.is_cancelled(), "the batch mate is still waited for"
    second.deadline = second.arrived
    assert executor.is_cancelled()
    executor.may_answer.set()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_edit_that_is_given_up_while_the_device_is_busy_is_never_prepared(
    executor: RecordingExecutor,
) -> None:
    device = Device(1)
    batcher = Batcher(executor, device, BatchSize(1, target_s=60.0))
    busy = await device.enter("refine")
    preparing = asyncio.create_task(batcher.prepare(EDIT))
    await settled()
    preparing.cancel()
    await settled()
    busy.leave()
    await batcher.close()
    assert executor.prepared == []
    assert device.is_free


async def test_a_batch_waits_on_a_free_device_for_what_is_being_decoded(executor: RecordingExecutor) -> None:
    batcher = Batcher(executor, Device(1), BatchSize(3, target_s=60.0), wait_s=60.0)
    executor.may_answer.set()
    with batcher.expecting():
        first = await submit(batcher, "a")
        assert executor.batches == []
    second = await submit(batcher, "b")
    await asyncio.gather(*first, *second)
    assert executor.batches == [["a", "b"]]
    with batcher.expecting():
        await asyncio.gather(*await submit(batcher, "cde"))
    assert executor.batches[1:] == [["c", "d", "e"]], "a full batch waits for nobody"
    await asyncio.gather(*await submit(batcher, "f"))
    assert executor.batches[2:] == [["f"]], "nothing was expected"
    await batcher.close()


async def test_a_batch_waits_no_longer_than_allowed(executor: RecordingExecutor) -> None:
    batcher = Batcher(executor, Device(1), BatchSize(3, target_s=60.0), wait_s=0.01)
    executor.may_answer.set()
    with batcher.expecting():
        await asyncio.gather(*await submit(batcher, "a"))
    assert executor.batches == [["a"]]
    await batcher.close()


async def test_a_critic_that_gains_nothing_by_batches_gets_one_at_a_time_at_once(
    executor: RecordingExecutor,
) -> None:
    batcher = Batcher(executor, Device(1), BatchSize(0, target_s=60.0), wait_s=60.0)
    executor.may_answer.set()
    with batcher.expecting():
        await asyncio.gather(*await submit(batcher, "abc"))
    assert executor.batches == [["a"], ["b"], ["c"]]
    await batcher.close()


def test_batches_grow_while_they_keep_the_target_and_halve_when_they_do_not() -> None:
    size, seen = BatchSize(16, target_s=0.1), []
    for _ in range(200):
        seen.append(size.current)
        size.note(size.current, seconds=0.02 + 0.01 * size.current)
    # 8 candidates take 0.1 s: it hovers between half of what was too much, and that.
    assert set(seen[10:]) == {4, 5, 6, 7, 8, 9}
    size.note(2, seconds=5.0)
    assert size.current == 1
    for _ in range(50):
        size.note(1, seconds=0.01)
    assert size.current == 2, "a batch that was not full says nothing about a larger one"
