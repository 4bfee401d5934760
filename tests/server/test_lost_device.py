"""A device that breaks for good: its candidate fails, nobody is told any more that the server is ready, and it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from editcritic.server.app import CriticServer, serve
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.executors.lost import is_device_lost
from editcritic.server.executors.memory import is_out_of_memory
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import EditCriticError, ServerFault
from tests.server.speaking import Stream, refusal

ASSERT = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


class Breaking(DummyCritic):
    """Breaks its device on a dark candidate."""

    asked: ClassVar[list[int]] = []

    @property
    def info(self) -> pb.CriticInfo:
        told = super().info
        told.identity.name, told.batch_count = "Breaking", 8
        return told

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        levels = [int(task.candidate.image[32, 32, 0]) for task in tasks]
        self.asked.extend(levels)
        if min(levels) < 10:
            raise RuntimeError(ASSERT)
        return super().critique(tasks, is_cancelled)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError(ASSERT), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("HIP error: unspecified launch failure"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), False),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA error: invalid configuration argument"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError(ASSERT), False),
    ],
)
def test_a_lost_device_is_told_from_one_that_is_full_and_from_a_critics_own_fault(
    error: Exception, is_lost: bool
) -> None:
    assert is_device_lost(error) == is_lost
    assert not (is_lost and is_out_of_memory(error))


async def test_what_is_on_a_lost_device_fails_once_and_nothing_more_is_tried() -> None:
    Breaking.asked, told = [], threading.Event()
    edit = DecodedEdit("e", np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), np.float32))
    tasks = [
        CritiqueTask(edit, None, DecodedCandidate(str(level), np.full((64, 64, 3), level, np.uint8)))
        for level in (100, 0, 200)
    ]
    with ThreadPoolExecutor(1) as pool:
        executor = LocalExecutor(Breaking(), pool, told.set)
        first = await executor.critique(tasks, lambda: False)
        later = await executor.critique(tasks[:1], lambda: False)
        with pytest.raises(EditCriticError) as prepared:
            await executor.prepare(edit)
    assert Breaking.asked == [100, 0, 200], "no one by one, no second batch"
    assert told.is_set()
    assert [each.code for each in first if isinstance(each, EditCriticError)] == [13, 13, 13]
    for error in (later[0], prepared.value):
        assert isinstance(error, EditCriticError)
        assert (error.code, error.reason) == (14, pb.ERROR_REASON_SHUTTING_DOWN)
        assert error.retry_after_s


async def test_a_server_that_lost_its_device_is_never_ready_again_and_ends(
    offer: Callable[[type], str], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    settings = ServerSettings(port=0, critics=(offer(Breaking),), warm_up=False)
    ready: asyncio.Future[CriticServer] = asyncio.get_running_loop().create_future()
    running = asyncio.ensure_future(serve(settings, on_ready=ready.set_result, stop=asyncio.Event()))
    server = await ready
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = critic_pb2_grpc.CriticServiceStub(channel)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        dark = pb.CritiqueRequest(edit=edit, candidate=make_candidate("dark", 0))
        error = await refusal(stub.Critique(dark))
        assert (error.code, error.reason) == (13, pb.ERROR_REASON_CRITIC_FAILED)
        assert "CUDA" not in str(error.to_status()), "the log has it"
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await stream.next()).HasField("going_away")
        bright = pb.CritiqueRequest(edit=edit, candidate=make_candidate("bright", 200))
        assert (await refusal(stub.Critique(bright))).code == grpc.StatusCode.UNAVAILABLE.value[0]
        with pytest.raises(ServerFault, match="start the server again"):
            await running
        assert (await refusal(stream.call.read())).code == grpc.StatusCode.UNAVAILABLE.value[0]
        watch.cancel()
