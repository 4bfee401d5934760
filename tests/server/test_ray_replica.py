"""A replica, played with in this process: what it keeps of edits, what it answers, and when it has hung."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.executors.ray_replica import CriticReplica
from editcritic.server.executors.ray_wire import RemoteEdit, SentTask, error_of, understood
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput
from tests.server.speaking import wait_until

SIDE = 32
EDIT_BYTES = SIDE * SIDE * (3 + 4)


class Preparing(DummyCritic):
    """Keeps what it prepared, refuses dark edits, and waits while it is told to."""

    prepared: ClassVar[list[int]] = []
    may_go_on = threading.Event()
    was_cancelled = threading.Event()

    def prepare(self, edit: DecodedEdit) -> None:
        level = int(edit.source[0, 0, 0])
        self.prepared.append(level)
        if level == 0:
            raise InvalidInput("too dark", reason=pb.ERROR_REASON_IMAGE_SIZE)
        edit.source[0, 0, 1] = 0  # what a critic is given it may write to

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        while not self.may_go_on.wait(0.005):
            if is_cancelled():
                self.was_cancelled.set()
                break
        return super().critique(tasks, is_cancelled)


@pytest.fixture
def replica(offer: Callable[[type], str]) -> CriticReplica:
    Preparing.prepared.clear()
    Preparing.may_go_on.set()
    Preparing.was_cancelled.clear()
    return CriticReplica(
        offer(Preparing),
        max_prepared_bytes=2 * EDIT_BYTES,
        warm_up=False,
        stuck_after_s=1.0,
        fingerprint="of-two",
    )


class Held:
    """A reference of Ray's: whoever awaits it gets the edit, which must not be written to."""

    def __init__(self, level: int) -> None:
        source = np.full((SIDE, SIDE, 3), level, np.uint8)
        source.flags.writeable = False
        self.edit = DecodedEdit("", source, np.ones((SIDE, SIDE), np.float32))

    def __await__(self) -> Any:
        async def get() -> DecodedEdit:
            return self.edit

        return get().__await__()


def task(level: int, brightness: int) -> CritiqueTask:
    held = Held(level)
    pixels = np.full((SIDE, SIDE, 3), brightness, np.uint8)
    remote = RemoteEdit(held, EDIT_BYTES, key=f"edit-{level}")
    return CritiqueTask(held.edit, remote, DecodedCandidate(f"c{brightness}", pixels))


async def judge(replica: CriticReplica, *tasks: CritiqueTask) -> list[Any]:
    sent = [SentTask.of(each) for each in tasks]
    held = {each.prepared.key: [each.prepared.held] for each in tasks}
    found = understood(sent, await replica.critique(sent, held))
    assert found
    return [each.scores.overall.value if isinstance(each, pb.Critique) else each.reason for each in found]


async def test_it_says_who_its_critic_is_and_how_it_was_deployed(replica: CriticReplica) -> None:
    info, fingerprint = await replica.description()
    assert pb.CriticInfo.FromString(info).identity.name == "dummy"
    assert fingerprint == "of-two"


async def test_a_batch_may_hold_candidates_of_several_edits(replica: CriticReplica) -> None:
    found = await judge(replica, task(10, 255), task(20, 0), task(10, 51))
    assert found == pytest.approx([100, 0, 20])
    assert Preparing.prepared == [10, 20], "each is prepared once"


async def test_an_edit_that_is_refused_fails_its_own_candidates(replica: CriticReplica) -> None:
    assert await judge(replica, task(10, 255), task(0, 255)) == [100, pb.ERROR_REASON_IMAGE_SIZE]
    refused = await replica.prepare("edit-0", [Held(0)])
    error = error_of(refused)
    assert isinstance(error, InvalidInput)
    assert isinstance(error, EditCriticError)
    assert Preparing.prepared == [10, 0, 0], "what failed is not kept"
    assert await replica.prepare("edit-10", [Held(10)]) == b""


async def test_the_edit_that_was_longest_unused_goes_first(replica: CriticReplica) -> None:
    for level in (10, 20, 10, 30, 10, 20):
        await judge(replica, task(level, 255))
    assert Preparing.prepared == [10, 20, 30, 20]


async def test_a_call_that_is_cancelled_stops_the_critic_and_keeps_the_edit(replica: CriticReplica) -> None:
    Preparing.may_go_on.clear()
    call = asyncio.create_task(judge(replica, task(10, 255)))
    await wait_until(lambda: Preparing.prepared == [10])
    await asyncio.sleep(0.02)
    call.cancel()
    await wait_until(Preparing.was_cancelled.is_set)
    Preparing.may_go_on.set()
    assert await judge(replica, task(10, 255)) == [100]
    assert Preparing.prepared == [10]


async def test_a_critic_that_does_not_come_back_is_told_of(replica: CriticReplica) -> None:
    await replica.check_health()
    Preparing.may_go_on.clear()
    call = asyncio.create_task(judge(replica, task(10, 255)))
    await wait_until(lambda: Preparing.prepared == [10])
    await replica.check_health()
    await asyncio.sleep(1.1)
    with pytest.raises(RuntimeError, match="has not come back"):
        await replica.check_health()
    Preparing.may_go_on.set()
    assert await call == [100]
    # What waited behind it has its turn now.
    await wait_until(lambda: replica._probe is not None and replica._probe.done())
    await replica.check_health()
