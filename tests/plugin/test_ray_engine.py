"""The replica's side of a run, without Ray: in which order it tells, and how it stops."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from editcritic.plugin import ray_engine
from editcritic.plugin.ray_engine import EngineReplica, StoppingDevice
from editcritic.plugin.ray_items import Mailbox, RunOrder
from editcritic.refine.request import completed_request
from editcritic.refine.suspended import SuspendedCall
from editcritic.refine.turns import Turns
from editcritic.server.executors.ray_wire import error_of
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import Cancelled, InvalidInput
from tests.server.speaking import wait_until


class Pipeline:
    """Ten steps; tells of each."""

    num_timesteps = 10

    def __init__(self, on_step: Any) -> None:
        self._on_step = on_step

    def __call__(self, callback_on_step_end: Any) -> str:
        for index in range(self.num_timesteps):
            self._on_step(index)
            callback_on_step_end(self, index, 0, {})
        return "finished"

    def maybe_free_model_hooks(self) -> None:
        pass


def test_a_run_that_was_left_ends_after_the_denoising_step_that_it_is_in() -> None:
    left, steps, device = threading.Event(), list[int](), StoppingDevice()

    def step(index: int) -> None:
        steps.append(index)
        if index == 3:
            left.set()

    turns = Turns(device)
    call = SuspendedCall(Pipeline(step), {}, turns)
    with device.used_by(left.is_set), pytest.raises(Cancelled):
        call.finish()
    assert steps == [0, 1, 2, 3]
    other = SuspendedCall(Pipeline(lambda _index: None), {}, turns)
    assert other.finish() == "finished", "the next run is not stopped by what stopped this one"


def order(edit: pb.Edit, **sampling: Any) -> RunOrder:
    request = refine_pb2.RefineRequest(edit=edit, sampling=refine_pb2.SamplingOptions(seed=4, **sampling))
    identity = pb.CriticIdentity(name="dummy").SerializeToString()
    full = completed_request(request).SerializeToString()
    return RunOrder("first", full, (), {}, identity, None, MailboxOfNobody())


class MailboxOfNobody:
    """Answers never come."""

    def __init__(self) -> None:
        self.take = self

    def remote(self, *_question: object) -> str:
        return "reference"


def runs() -> int:
    return sum(thread.name == "refinement" for thread in threading.enumerate())


async def test_it_tells_in_order_and_waits_for_its_critic_until_it_is_left(
    edit: pb.Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'editcritic[ray]'")
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: (time.sleep(timeout / 10), ([], refs))[1])
    given_up: list[str] = []
    monkeypatch.setattr(ray, "cancel", given_up.append)
    replica = EngineReplica("dummy", {}, fingerprint="of-two")
    before, stream = runs(), replica.run(order(edit))
    kinds = []
    async for name, kind, payload in stream:
        assert name == "first"
        told = refine_pb2.RefineResponse.FromString(payload[0]) if kind == "event" else None
        kinds.append(told.WhichOneof("event") if told else kind)
        if kind == "question":
            break
    assert kinds == ["begin", "started", "candidate_started", "preview", "question"]
    assert runs() == before + 1
    await stream.aclose()  # type: ignore[attr-defined]
    await wait_until(lambda: runs() == before)
    assert given_up == ["reference"]


async def test_what_the_engine_refuses_is_told_before_the_edit_is_begun(edit: pb.Edit) -> None:
    replica = EngineReplica("dummy", {}, fingerprint="of-two")
    items = [item async for item in replica.run(order(edit, quality_target=80.0))]
    ((_, kind, status),) = items
    assert kind == "error"
    assert isinstance(error_of(status), InvalidInput)


async def test_a_fault_has_a_number_and_no_text_of_ours(
    edit: pb.Edit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError("secret path /home/user")

    monkeypatch.setattr(ray_engine, "Refinement", broken)
    replica = EngineReplica("dummy", {}, fingerprint="of-two")
    ((_, kind, status),) = [item async for item in replica.run(order(edit))]
    error = error_of(status)
    assert (kind, error.reason) == ("error", pb.ERROR_REASON_INTERNAL)
    assert "secret" not in str(error.to_status())
    assert error.metadata["incident"] in caplog.text


async def test_an_answer_waits_for_whoever_takes_it_and_reaches_nobody_else() -> None:
    mailbox = Mailbox()
    taking = asyncio.ensure_future(mailbox.take("first", 2))
    await mailbox.put("second", 2, (True, b"of the second"))
    await mailbox.put("first", 1, (True, b"before it"))
    await asyncio.sleep(0)
    assert not taking.done()
    await mailbox.put("first", 2, (True, b"its own"))
    assert await taking == (True, b"its own")
    await mailbox.forget("first")
    assert await mailbox.take("second", 2) == (True, b"of the second")
    given_up = asyncio.ensure_future(mailbox.take("third", 1))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert not mailbox._answers, "nothing is left of what was taken, forgotten or given up"
