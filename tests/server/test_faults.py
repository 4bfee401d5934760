"""Faults of the server itself: a critic that fails, lies or dawdles costs nobody else an answer."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import grpc
import grpc.aio
import numpy as np
import pytest

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.executors.local import LocalExecutor
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError
from tests.server.speaking import Stream, refusal, wait_until

MakeCandidate = Callable[..., pb.Candidate]
Offer = Callable[[type], str]


class FailingOnDark(DummyCritic):
    """Raises on dark candidates, whatever else is in the batch."""

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        outcomes = super().critique(tasks, is_cancelled)
        if any(outcome.scores.overall.value < 10 for outcome in outcomes):
            raise ZeroDivisionError("secret path /home/user/model.bin")
        return outcomes


async def test_a_critic_that_raises_fails_its_own_candidate_and_tells_no_secrets(
    serving: Any, offer: Offer, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=(offer(FailingOnDark),)) as (_, stub):
        candidates = [make_candidate("bright", 200), make_candidate("dark", 0), make_candidate("light", 100)]
        ranking = (await stub.Rank(pb.RankRequest(edit=edit, candidates=candidates))).ranking
        assert [entry.candidate_id for entry in ranking] == ["bright", "light", "dark"]
        error = await refusal(stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("d", 0))))
        assert error.code == grpc.StatusCode.INTERNAL.value[0]
        assert error.reason == pb.ERROR_REASON_CRITIC_FAILED
        assert error.metadata["incident"] in error.message
        assert "secret" not in str(error.to_status())


class Unsound(DummyCritic):
    """Answers with numbers that are none."""

    value = math.nan

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        outcomes = super().critique(tasks, is_cancelled)
        for outcome in outcomes:
            outcome.scores.harmony.value = self.value
        return outcomes


class TooHigh(Unsound):
    """Scores beyond the scale."""

    value = 250.0


class Miscounting(DummyCritic):
    """Forgets an answer."""

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        return super().critique(tasks, is_cancelled)[1:]


class OutOfMemory(DummyCritic):
    """Has no memory left."""

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        raise MemoryError


class FailingToPrepare(DummyCritic):
    """Fails before there is a candidate."""

    def prepare(self, edit: Any) -> None:
        raise KeyError("secret")


@pytest.mark.parametrize(
    ("critic", "reason"),
    [
        (Unsound, pb.ERROR_REASON_CRITIC_FAILED),
        (TooHigh, pb.ERROR_REASON_CRITIC_FAILED),
        (Miscounting, pb.ERROR_REASON_CRITIC_FAILED),
        (OutOfMemory, pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY),
        (FailingToPrepare, pb.ERROR_REASON_CRITIC_FAILED),
    ],
)
async def test_an_unsound_answer_is_an_error_and_never_a_score(
    serving: Any, offer: Offer, edit: pb.Edit, make_candidate: MakeCandidate, critic: type, reason: int
) -> None:
    async with serving(critics=(offer(critic),)) as (_, stub):
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
        assert (await refusal(stub.Critique(request))).reason == reason


class FailingToLoad(DummyCritic):
    """Cannot be built."""

    def __init__(self) -> None:
        raise OSError("no weights")


async def test_a_critic_that_cannot_be_loaded_leaves_the_others_serving(
    serving: Any, offer: Offer, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=("dummy", offer(FailingToLoad))) as (_, stub):
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
        assert (await stub.Critique(request)).critique.critic.name == "dummy"
        request.options.critic = "FailingToLoad"
        error = await refusal(stub.Critique(request))
        assert error.reason == pb.ERROR_REASON_CRITIC_UNAVAILABLE


class SmallDevice(DummyCritic):
    """Has memory for two candidates at a time, and none for bright ones."""

    asked: ClassVar[list[list[int]]] = []
    error: ClassVar[Exception] = MemoryError()
    room = 2

    @property
    def info(self) -> pb.CriticInfo:
        told = super().info
        told.batch_count = 8
        return told

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        levels = [int(task.candidate.image[32, 32, 0]) for task in tasks]
        self.asked.append(levels)
        if len(tasks) > self.room or max(levels) > 200:
            raise self.error
        return super().critique(tasks, is_cancelled)


def torch_out_of_memory() -> Exception:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch_out_of_memory(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
async def test_a_batch_that_does_not_fit_is_halved_and_only_what_never_fits_fails(error: Exception) -> None:
    SmallDevice.asked, SmallDevice.error = [], error
    critic, mask = SmallDevice(), np.ones((64, 64), np.float32)
    edit = DecodedEdit("e", np.zeros((64, 64, 3), np.uint8), mask)
    levels = [10, 20, 255, 40, 50, 60, 70, 80]
    tasks = [
        CritiqueTask(edit, None, DecodedCandidate(str(level), np.full((64, 64, 3), level, np.uint8)))
        for level in levels
    ]
    with ThreadPoolExecutor(1) as pool:
        outcomes = await LocalExecutor(critic, pool).critique(tasks, lambda: False)
        again = await LocalExecutor(critic, pool).critique(tasks[:1], lambda: False)
    assert [len(each) for each in SmallDevice.asked] == [8, 4, 2, 2, 1, 1, 4, 2, 2, 1]
    failed = [outcome for outcome in outcomes if isinstance(outcome, EditCriticError)]
    assert [each.reason for each in failed] == [pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY]
    assert [each.code for each in failed] == [grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]]
    scores = [out.scores.overall.value for out in (*outcomes, *again) if isinstance(out, pb.Critique)]
    assert scores == pytest.approx([level / 2.55 for level in levels if level < 200] + [10 / 2.55])


async def test_a_server_whose_device_is_too_small_for_one_goes_on_with_the_others(
    serving: Any, offer: Offer, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    SmallDevice.asked, SmallDevice.error = [], MemoryError()
    async with serving(critics=(offer(SmallDevice),), workers=1) as (_, stub):
        candidates = [make_candidate(f"c{level}", level) for level in (10, 90, 255, 120)]
        ranking = (await stub.Rank(pb.RankRequest(edit=edit, candidates=candidates))).ranking
        assert [entry.candidate_id for entry in ranking] == ["c120", "c90", "c10", "c255"]
        assert ranking[-1].error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


class Dawdling(DummyCritic):
    """Never ends on its own; notes whether it was told to stop."""

    was_asked, was_cancelled = threading.Event(), threading.Event()

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        self.was_asked.set()
        give_up = time.monotonic() + 20
        while not is_cancelled() and time.monotonic() < give_up:
            time.sleep(0.005)
        if is_cancelled():
            self.was_cancelled.set()
        return super().critique(tasks, is_cancelled)


@pytest.fixture
def dawdling(offer: Offer) -> type[Dawdling]:
    Dawdling.was_asked.clear()
    Dawdling.was_cancelled.clear()
    offer(Dawdling)
    return Dawdling


async def test_a_budget_ends_the_wait_and_the_work(
    serving: Any, dawdling: type[Dawdling], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=("Dawdling",)) as (_, stub):
        options = pb.CritiqueOptions(budget_ms=50)
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate(), options=options)
        error = await refusal(stub.Critique(request))
        assert error.reason == pb.ERROR_REASON_BUDGET_EXCEEDED
        await wait_until(dawdling.was_cancelled.is_set)


@pytest.mark.parametrize("how", ["deadline", "cancel"])
async def test_a_caller_that_leaves_frees_the_worker(
    serving: Any, dawdling: type[Dawdling], edit: pb.Edit, make_candidate: MakeCandidate, how: str
) -> None:
    async with serving(critics=("Dawdling",), workers=1) as (server, stub):
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
        call = stub.Critique(request, timeout=1.0 if how == "deadline" else None)
        if how == "cancel":
            await wait_until(dawdling.was_asked.is_set)
            call.cancel()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
        await wait_until(dawdling.was_cancelled.is_set)
        await wait_until(lambda: server._hosts.admission.byte_count == 0)


async def test_a_budget_on_a_stream_fails_the_candidate_and_not_the_stream(
    serving: Any, dawdling: type[Dawdling], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=("Dawdling",)) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit, budget_ms=50)
        await stream.send(candidate=make_candidate("late"))
        assert (await stream.next()).candidate_error.status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert (await stream.finish())[-1].closed.error_count == 1


async def test_many_callers_each_get_their_own_answer(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    requests = {
        f"c{level}": pb.CritiqueRequest(edit=edit, candidate=make_candidate(f"c{level}", level))
        for level in range(0, 256, 5)
    }
    answers = await asyncio.gather(*(stub.Critique(request) for request in requests.values()))
    for name, answer in zip(requests, answers, strict=True):
        assert answer.critique.candidate_id == name
        assert answer.critique.scores.overall.value == pytest.approx(int(name[1:]) / 2.55)


async def test_a_full_server_refuses_a_call_with_a_time_to_retry(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(max_queued_bytes=1000) as (_, stub):
        error = await refusal(stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate())))
        assert error.reason == pb.ERROR_REASON_QUEUE_FULL
        assert error.retry_after_s
