"""Critics that are replaced under load: nobody's call is dropped, and what was replaced leaves no memory behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import grpc.aio
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from editcritic.server.critics.base import Outcome
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.v1 import admin_pb2, admin_pb2_grpc
from editcritic.v1 import critic_pb2 as pb
from tests.server.speaking import Stream, refusal

TOKEN = "a-long-random-token"
ADMIN = (("authorization", f"Bearer {TOKEN}"),)
SCORER = "another-long-token!"
WEIGHTS_BYTES = 32 * 2**20
states = health_pb2.HealthCheckResponse


class Numbered(DummyCritic):
    """Every load is another version, and has weights that can be seen in the process's memory."""

    numbers = itertools.count(1)
    alive: ClassVar[weakref.WeakSet[Numbered]] = weakref.WeakSet()

    def __init__(self) -> None:
        super().__init__()
        self.weights = np.ones(WEIGHTS_BYTES, np.uint8)
        self._version = f"load-{next(self.numbers)}"
        self.alive.add(self)

    @property
    def info(self) -> pb.CriticInfo:
        info = super().info
        info.identity.name, info.identity.version = "Numbered", self._version
        return info


class Broken(DummyCritic):
    """Can be loaded, and fails on whatever it is shown."""

    def critique(self, tasks: Any, is_cancelled: Any) -> list[Outcome]:
        raise RuntimeError("no such kernel")


class Slow(DummyCritic):
    """Loads once it is let go."""

    let_go = threading.Event()

    def __init__(self) -> None:
        super().__init__()
        self.let_go.wait(20)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"operator {TOKEN} admin\nstudio {SCORER} score\n")
    path.chmod(0o600)
    return path


@asynccontextmanager
async def administered(serving: Any, tokens: Path, *critics: str) -> AsyncIterator[tuple[Any, Any, Any]]:
    """(server, stub of critics, stub of the administration)"""
    settings = {"critics": critics, "admin": True, "tokens_path": tokens, "warm_up": True}
    async with (
        serving(**settings) as (server, stub),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield server, stub, admin_pb2_grpc.AdminServiceStub(channel)


async def load(admin: Any, spec: str) -> admin_pb2.LoadedCritic:
    return (await admin.LoadCritic(admin_pb2.LoadCriticRequest(spec=spec), metadata=ADMIN)).critic


async def loaded(admin: Any) -> list[admin_pb2.LoadedCritic]:
    answer = await admin.ListLoadedCritics(admin_pb2.ListLoadedCriticsRequest(), metadata=ADMIN)
    return list(answer.critics)


async def alone(admin: Any, count: int) -> None:
    """Return once nothing but what new edits go to is in memory."""
    while len(await loaded(admin)) > count:
        await asyncio.sleep(0.02)


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


async def test_twenty_swaps_under_load_drop_no_call_and_leave_no_memory(
    serving: Any, offer: Any, tokens: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    name = offer(Numbered)
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 204))
    async with administered(serving, tokens, name) as (_, stub, admin):
        (first,) = await loaded(admin)
        base, is_over = resident_bytes(), asyncio.Event()

        async def calls() -> list[str]:
            seen = []
            while not is_over.is_set():
                critique = (await stub.Critique(request, metadata=ADMIN)).critique
                assert critique.scores.overall.value == pytest.approx(80)
                seen.append(critique.critic.version)
            return seen

        async def streams() -> list[str]:
            seen = []
            while not is_over.is_set():
                stream = Stream(stub.CritiqueStream(metadata=ADMIN))
                opened = await stream.open(edit)
                for number in range(3):
                    await stream.send(candidate=make_candidate(f"seed-{number}"))
                judged = [e.critique for e in await stream.finish() if e.HasField("critique")]
                assert [each.critic for each in judged] == [opened.critic] * 3
                seen.append(opened.critic.version)
            return seen

        working = [asyncio.ensure_future(each()) for each in (calls, calls, streams)]
        versions = [first.info.identity.version]
        for _ in range(20):
            versions.append((await load(admin, name)).info.identity.version)
            answer = (await stub.Critique(request, metadata=ADMIN)).critique
            assert answer.critic.version == versions[-1], "new edits go to the new one at once"
        is_over.set()
        for seen in await asyncio.gather(*working):
            assert len(seen) > 1
            order = [versions.index(version) for version in seen]
            assert order == sorted(order), "nobody goes back to an older one"
        await alone(admin, 1)
        assert len(set(versions)) == 21
        assert len(Numbered.alive) == 1
        assert resident_bytes() - base < 3 * WEIGHTS_BYTES


async def test_an_open_edit_finishes_with_the_critic_that_it_began_with(
    serving: Any, offer: Any, tokens: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    name = offer(Numbered)
    async with administered(serving, tokens, name) as (_, stub, admin):
        stream = Stream(stub.CritiqueStream(metadata=ADMIN))
        before = (await stream.open(edit)).critic.version
        after = (await load(admin, name)).info.identity.version
        current, leaving = await loaded(admin)
        assert (current.is_current, leaving.is_current, leaving.open_edit_count) == (True, False, 1)
        assert current.load_number > leaving.load_number
        await stream.send(candidate=make_candidate("late"))
        assert (await stream.next()).critique.critic.version == before != after
        await stream.finish()
        await alone(admin, 1)


async def test_a_critic_that_fails_its_first_edit_changes_nothing(
    serving: Any, offer: Any, tokens: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    broken = offer(Broken)
    async with administered(serving, tokens, "dummy") as (server, stub, admin):
        call = admin.LoadCritic(admin_pb2.LoadCriticRequest(spec=broken), metadata=ADMIN)
        error = await refusal(call)
        assert error.reason == pb.ERROR_REASON_CRITIC_UNAVAILABLE
        assert [each.spec for each in await loaded(admin)] == ["dummy"]
        assert await health(server, broken) == states.NOT_SERVING
        await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate()), metadata=ADMIN)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", pb.ERROR_REASON_FIELD_MISSING),
        ("mars", pb.ERROR_REASON_CRITIC_UNKNOWN),
        ("dummy@folder", pb.ERROR_REASON_UNSPECIFIED),
    ],
)
async def test_what_cannot_be_loaded_is_told(serving: Any, tokens: Path, spec: str, reason: int) -> None:
    async with administered(serving, tokens, "dummy") as (_, _, admin):
        call = admin.LoadCritic(admin_pb2.LoadCriticRequest(spec=spec), metadata=ADMIN)
        error = await refusal(call)
        assert (error.reason, error.code in (3, 5)) == (reason, True)


async def health(server: Any, critic: str = "") -> int:
    service = f"editcritic.v1.CriticService/{critic}" if critic else ""
    async with grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return int((await check(health_pb2.HealthCheckRequest(service=service))).status)


async def test_a_critic_is_ready_only_when_it_is_warm(
    serving: Any, offer: Any, tokens: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    slow = offer(Slow)
    async with administered(serving, tokens, "dummy") as (server, stub, admin):
        assert await health(server, "dummy") == states.SERVING
        loading = asyncio.ensure_future(load(admin, slow))
        while not server._hosts._waiting:
            await asyncio.sleep(0.01)
        assert await health(server, slow) == states.NOT_SERVING
        options = pb.CritiqueOptions(critic=slow)
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate(), options=options)
        error = await refusal(stub.Critique(request, metadata=ADMIN))
        assert (error.code, error.reason) == (14, pb.ERROR_REASON_CRITIC_UNAVAILABLE)
        assert error.retry_after_s
        assert await health(server) == states.SERVING, "the others serve meanwhile"
        Slow.let_go.set()
        await loading
        assert await health(server, slow) == states.SERVING


async def test_unloading(
    serving: Any, tokens: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with administered(serving, tokens, "dummy", "evidence") as (server, stub, admin):
        await admin.UnloadCritic(admin_pb2.UnloadCriticRequest(name="evidence"), metadata=ADMIN)
        await alone(admin, 1)
        assert await health(server, "evidence") == states.NOT_SERVING
        options = pb.CritiqueOptions(critic="evidence")
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate(), options=options)
        error = await refusal(stub.Critique(request, metadata=ADMIN))
        assert error.reason == pb.ERROR_REASON_CRITIC_UNAVAILABLE
        default = admin.UnloadCritic(admin_pb2.UnloadCriticRequest(name="dummy"), metadata=ADMIN)
        assert "default" in (await refusal(default)).message
        await load(admin, "evidence")
        assert await health(server, "evidence") == states.SERVING


async def test_it_is_for_admins_and_off_unless_asked_for(serving: Any, tokens: Path) -> None:
    async with administered(serving, tokens, "dummy") as (_, _, admin):
        mine = (("authorization", f"Bearer {SCORER}"),)
        call = admin.ListLoadedCritics(admin_pb2.ListLoadedCriticsRequest(), metadata=mine)
        assert (await refusal(call)).reason == pb.ERROR_REASON_PERMISSION_DENIED
    async with (
        serving(tokens_path=tokens) as (server, _),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        call = admin.ListLoadedCritics(admin_pb2.ListLoadedCriticsRequest(), metadata=ADMIN)
        assert (await refusal(call)).code == 12


def test_an_administered_server_needs_tokens() -> None:
    with pytest.raises(SettingsError, match="--tokens"):
        ServerSettings(admin=True)
