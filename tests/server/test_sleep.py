"""Critics that sleep: their memory is free, nobody sees a difference but in time, and what fails at waking is told."""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import grpc.aio
import pytest

from editcritic.server.critics.base import Outcome
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.executors import supervisor, worker_command
from editcritic.v1 import admin_pb2, admin_pb2_grpc
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput
from tests.server.speaking import Stream, refusal
from tests.server.test_isolation import ODD, health, is_gone, starts, states, wait_until
from tests.server.test_metrics import value

TOKEN = "a-long-random-token"
ADMIN = (("authorization", f"Bearer {TOKEN}"),)


class Sleeper(DummyCritic):
    """Refuses what another load of it has prepared; loads when it may."""

    alive: ClassVar[weakref.WeakSet[Sleeper]] = weakref.WeakSet()
    loads: ClassVar[Any] = itertools.count(1)
    may_load = threading.Event()
    is_broken = False

    def __init__(self) -> None:
        super().__init__()
        assert self.may_load.wait(20)
        if type(self).is_broken:
            raise OSError("the disk is gone")
        self.load = next(type(self).loads)
        self.cycle = self
        self.alive.add(self)

    @property
    def info(self) -> pb.CriticInfo:
        info = super().info
        info.identity.name = "Sleeper"
        return info

    def prepare(self, edit: Any) -> Any:
        return [self.load, self]

    def critique(self, tasks: Any, is_cancelled: Any) -> list[Outcome]:
        if any(task.prepared[0] != self.load for task in tasks):
            return [InvalidInput("this was prepared by a model that is gone")] * len(tasks)
        return super().critique(tasks, is_cancelled)


@pytest.fixture
def sleeper(offer: Any) -> type[Sleeper]:
    """Afresh: nothing loaded, and loading at once."""
    Sleeper.loads, Sleeper.is_broken = itertools.count(1), False
    Sleeper.alive.clear()
    Sleeper.may_load.set()
    offer(Sleeper)
    return Sleeper


def settings(after_s: float = 0.1, *others: str, **more: Any) -> dict[str, Any]:
    return {"critics": ("Sleeper", *others), "hosting": (f"Sleeper?sleep_after={after_s}",), **more}


async def asleep(server: Any) -> None:
    host = server._hosts.host("")
    await wait_until(lambda: host.info.state == pb.CRITIC_STATE_ASLEEP)


async def state(stub: Any) -> int:
    return int((await stub.ListCritics(pb.ListCriticsRequest())).critics[0].state)


async def test_an_idle_critic_leaves_memory_and_comes_back_for_the_next_candidate(
    serving: Any, sleeper: type[Sleeper], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving(**settings(metrics_port=0)) as (server, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        await stream.send(candidate=make_candidate("before", 102))
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(40)
        await asleep(server)
        assert len(sleeper.alive) == 0
        assert await state(stub) == pb.CRITIC_STATE_ASLEEP
        assert await health(server, "Sleeper") == await health(server) == states.SERVING
        labels = {"critic": "Sleeper"}
        assert await value(server, "editcritic_critic_state", **labels, state="asleep") == 1
        assert await value(server, "editcritic_critic_ready", **labels, version="1") == 1
        await stream.send(candidate=make_candidate("after", 204))
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(80)
        assert await value(server, "editcritic_critic_wakes_total", **labels) == 1
        await stream.finish()


async def test_all_who_come_meanwhile_wait_for_one_waking(
    serving: Any, sleeper: type[Sleeper], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 102))
    async with serving(**settings()) as (server, stub):
        await asleep(server)
        sleeper.may_load.clear()
        waiting = [asyncio.ensure_future(stub.Critique(request)) for _ in range(5)]
        await wait_until(lambda: server._hosts.host("").info.state == pb.CRITIC_STATE_WAKING)
        sleeper.may_load.set()
        for answer in await asyncio.gather(*waiting):
            assert answer.critique.scores.overall.value == pytest.approx(40)
        assert next(sleeper.loads) == 3, "it was loaded twice: at the start and once more"


async def test_a_deadline_is_kept_while_it_wakes_and_others_are_not_held_up(
    serving: Any, sleeper: type[Sleeper], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    hurried = pb.CritiqueOptions(budget_ms=300)
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 102), options=hurried)
    async with serving(**settings(0.1, "dummy", workers=1)) as (server, stub):
        await asleep(server)
        sleeper.may_load.clear()
        error = await refusal(stub.Critique(request))
        assert error.reason == pb.ERROR_REASON_BUDGET_EXCEEDED
        other = pb.CritiqueRequest(edit=edit, candidate=make_candidate("b", 204))
        other.options.critic = "dummy"
        answer = await stub.Critique(other)
        assert answer.critique.critic.name == "dummy", "the one place of the CPU is free meanwhile"
        sleeper.may_load.set()
        request.options.budget_ms = 0
        assert (await stub.Critique(request)).critique.scores.overall.value == pytest.approx(40)
        assert next(sleeper.loads) == 3, "the waking that nobody waited for went on"


async def test_a_critic_that_cannot_be_woken_says_when_to_try_again(
    serving: Any, sleeper: type[Sleeper], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 102))
    async with serving(**settings()) as (server, stub):
        stream = Stream(stub.CritiqueStream())
        await asleep(server)
        sleeper.is_broken = True
        error = await refusal(stub.Critique(request))
        assert (error.code, error.reason) == (14, pb.ERROR_REASON_CRITIC_UNAVAILABLE)
        assert error.retry_after_s == 5
        assert "disk" not in error.message, "an incident is told, and no text of the exception"
        await stream.open(edit)
        await stream.send(candidate=make_candidate("early"))
        failed = (await stream.next()).candidate_error
        assert (failed.candidate_id, failed.status.code) == ("early", 14)
        sleeper.is_broken = False
        await stream.send(candidate=make_candidate("late", 102))
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(40)
        await stream.finish()


async def test_a_critic_at_work_does_not_sleep(
    serving: Any, offer: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving(critics=("dummy@300",), hosting=("dummy?sleep_after=0.05",)) as (server, stub):
        await asleep(server)
        host = server._hosts.host("")
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 102))
        calls = [asyncio.ensure_future(stub.Critique(request)) for _ in range(4)]
        seen = set()
        while not all(call.done() for call in calls):
            seen.add(host.info.state)
            await asyncio.sleep(0.01)
        assert host.vitals.wakes == 1
        assert seen <= {pb.CRITIC_STATE_ASLEEP, pb.CRITIC_STATE_WAKING, pb.CRITIC_STATE_AWAKE}
        await asleep(server)


async def test_a_sleeping_critic_is_replaced_and_unloaded_like_any_other(
    serving: Any,
    sleeper: type[Sleeper],
    tmp_path: Path,
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operator {TOKEN} admin\n")
    tokens.chmod(0o600)
    more = {"admin": True, "tokens_path": tokens, "critics": ("dummy", "Sleeper")}
    async with (
        serving(**{**settings(), **more}) as (server, stub),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        stream = Stream(stub.CritiqueStream(metadata=ADMIN))
        await stream.open(edit, critic="Sleeper")
        old = server._hosts.host("Sleeper")
        await wait_until(lambda: old.info.state == pb.CRITIC_STATE_ASLEEP)
        ask = admin_pb2.LoadCriticRequest(spec="Sleeper")
        loaded = (await admin.LoadCritic(ask, metadata=ADMIN)).critic
        assert loaded.info.state == pb.CRITIC_STATE_AWAKE
        await stream.send(candidate=make_candidate("late", 102))
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(40)
        await stream.finish()
        await wait_until(lambda: not server._hosts.leaving())
        new = server._hosts.host("Sleeper")
        await wait_until(lambda: new.info.state == pb.CRITIC_STATE_ASLEEP)
        assert len(sleeper.alive) == 0
        await admin.UnloadCritic(admin_pb2.UnloadCriticRequest(name="Sleeper"), metadata=ADMIN)
        await wait_until(lambda: not server._hosts.leaving())


async def test_a_sleeping_process_is_no_process(
    serving: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
) -> None:
    monkeypatch.setattr(worker_command, "WORKER_SCRIPT", ODD)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    hosting = ("dummy?isolation=process&sleep_after=0.2",)
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 102))
    async with serving(critics=(f"dummy@{tmp_path}",), hosting=hosting) as (server, stub):
        for count in (1, 2):
            assert (await stub.Critique(request)).critique.scores.overall.value == pytest.approx(40)
            await asleep(server)
            assert await state(stub) == pb.CRITIC_STATE_ASLEEP
            assert await health(server, "dummy") == states.SERVING
            assert [is_gone(each) for each in starts(tmp_path)] == [True] * count
        host = server._hosts.host("")
        assert (host.vitals.wakes, dict(host.vitals.ends)) == (1, {}), "sleep is no fault"
        (tmp_path / "refuse").touch()
        error = await refusal(stub.Critique(request))
        assert (error.code, error.reason) == (14, pb.ERROR_REASON_CRITIC_UNAVAILABLE)
        assert error.retry_after_s
        (tmp_path / "refuse").unlink()
        await wait_until(lambda: host.info.state in (pb.CRITIC_STATE_AWAKE, pb.CRITIC_STATE_ASLEEP))
        assert (await stub.Critique(request)).critique.scores.overall.value == pytest.approx(40)
    assert all(map(is_gone, starts(tmp_path)))


async def test_a_process_is_replaced_under_load(
    serving: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
) -> None:
    monkeypatch.setattr(worker_command, "WORKER_SCRIPT", ODD)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operator {TOKEN} admin\n")
    tokens.chmod(0o600)
    spec, hosting = f"dummy@{tmp_path}", ("dummy?isolation=process",)
    more = {"admin": True, "tokens_path": tokens, "critics": (spec,), "hosting": hosting, "warm_up": True}
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 102))
    async with serving(**more) as (server, stub), grpc.aio.insecure_channel(server.address) as channel:
        is_over = asyncio.Event()

        async def calls() -> int:
            count = 0
            while not is_over.is_set():
                critique = (await stub.Critique(request, metadata=ADMIN)).critique
                assert critique.scores.overall.value == pytest.approx(40)
                count += 1
            return count

        working = [asyncio.ensure_future(calls()) for _ in range(2)]
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        await admin.LoadCritic(admin_pb2.LoadCriticRequest(spec=spec), metadata=ADMIN)
        await wait_until(lambda: not server._hosts.leaving())
        first, second = starts(tmp_path)
        assert (is_gone(first), is_gone(second)) == (True, False)
        is_over.set()
        assert all(count > 0 for count in await asyncio.gather(*working))
