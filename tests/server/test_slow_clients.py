"""Clients that do not read, vanish without a word, or want everything: memory and places stay bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest

from editcritic.server.session import CritiqueSession
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import DeadlineExceeded
from tests.server.conformance.staged import Stage
from tests.server.speaking import Stream, wait_until

MakeCandidate = Callable[..., pb.Candidate]


def opener(hosts: Any) -> Any:
    return lambda opening: hosts.open(opening.edit, opening.options)


class EndlessClient:
    """Sends one candidate after the other as long as the server takes them, and never reads."""

    def __init__(self, edit: pb.Edit, make_candidate: MakeCandidate) -> None:
        self._edit, self._make = edit, make_candidate
        self.taken = 0

    async def requests(self) -> AsyncIterator[pb.CritiqueStreamRequest]:
        yield pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=self._edit))
        while True:
            yield pb.CritiqueStreamRequest(candidate=self._make(f"c{self.taken}"))
            self.taken += 1
            await asyncio.sleep(0)


async def test_a_client_that_never_reads_fills_its_credit_and_no_more(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(max_pending=6) as (server, _):
        hosts, client = server._hosts, EndlessClient(edit, make_candidate)
        session = CritiqueSession(client.requests(), opener(hosts), hosts.settings)
        events = session.events()
        assert (await anext(events)).HasField("opened")
        # One event more than the credit: the error that tells of it.
        await wait_until(lambda: session.unread_count == 7)
        assert client.taken == 6
        await asyncio.sleep(0.05)
        assert session.unread_count == 7
        session.abort()
        assert session.unread_count == 0


async def test_answers_that_are_not_read_in_time_are_forgotten_with_all_the_work(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(idle_timeout_s=0.5) as (server, _):
        hosts, client = server._hosts, EndlessClient(edit, make_candidate)
        session = CritiqueSession(client.requests(), opener(hosts), hosts.settings)
        events = session.events()
        await anext(events)
        # Suspended in its first `yield`, as gRPC leaves it while a client's window is full.
        await wait_until(lambda: session.unread_count == 0 and hosts.admission.byte_count == 0)
        with pytest.raises(DeadlineExceeded):
            await anext(events)


class SilentProxy:
    """Passes bytes on until it is told to fall silent; then the connections stay open and nothing passes."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port, self._tasks = int(port), set[asyncio.Task[None]]()
        self._is_silent = False
        self.address = ""

    async def __aenter__(self) -> SilentProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fall_silent(self) -> None:
        self._is_silent = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.create_task(self._pump(source, target)))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if not self._is_silent:
                    target.write(data)
                    await target.drain()
        finally:
            target.close()


async def test_a_peer_that_vanished_without_a_word_is_noticed_and_its_work_dropped(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    settings = {
        "critics": ("staged",),
        "keepalive_s": 0.2,
        "keepalive_timeout_s": 1.0,
        "workers": 1,
    }
    async with serving(**settings) as (server, _), SilentProxy(server.address) as proxy:
        async with grpc.aio.insecure_channel(proxy.address) as channel:
            stream = Stream(critic_pb2_grpc.CriticServiceStub(channel).CritiqueStream())
            await stream.open(edit)
            await stream.send(candidate=make_candidate("running"))
            await wait_until(lambda: stage.asked == ["running"])
            await asyncio.sleep(1.6)
            assert not stage.was_cancelled(), "a living peer answers the pings"
            proxy.fall_silent()
            await wait_until(stage.was_cancelled)
            await wait_until(lambda: server._hosts.admission.byte_count == 0)
        stage.open()


async def test_one_caller_cannot_have_all_streams(serving: Any, edit: pb.Edit) -> None:
    async with serving(max_streams=8) as (server, greedy):
        held = [Stream(greedy.CritiqueStream()) for _ in range(8)]
        opened = await asyncio.gather(*(each.open(edit) for each in held), return_exceptions=True)
        assert sum(isinstance(each, pb.EditOpened) for each in opened) == 6
        async with grpc.aio.insecure_channel(
            server.address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            other = Stream(critic_pb2_grpc.CriticServiceStub(channel).CritiqueStream())
            assert (await other.open(edit)).edit_id


def test_keepalive_is_within_what_clients_may_expect() -> None:
    settings = ServerSettings()
    assert settings.keepalive_s + settings.keepalive_timeout_s <= 80
