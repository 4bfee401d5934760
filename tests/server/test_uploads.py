"""Uploads that never end, end in the middle, or come too late; and connections by the thousand."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil
import pytest

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.images import encode_mask, raw_image
from tests.server.gated import GatedCritic
from tests.server.proxies import SlowProxy
from tests.server.speaking import Stream, refusal, wait_until

MakeCandidate = Callable[..., pb.Candidate]
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]

UPLOADING = """
import sys
import grpc
from editcritic.v1 import critic_pb2 as pb, critic_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = critic_pb2_grpc.CriticServiceStub(channel)
    data = sys.stdin.buffer.read()
    if sys.argv[2] == "call":
        stub.Critique(pb.CritiqueRequest.FromString(data))
    else:
        list(stub.CritiqueStream(iter([pb.CritiqueStreamRequest.FromString(data)])))
"""


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        yield critic_pb2_grpc.CriticServiceStub(channel)


def large_edit() -> pb.Edit:
    """Some 3 MB."""
    source = np.random.default_rng(1).integers(0, 256, (1000, 1000, 3), np.uint8)
    return pb.Edit(source=raw_image(source), denoise_mask=encode_mask(np.ones((1000, 1000), np.float32)))


@pytest.mark.parametrize("kind", ["call", "stream"])
async def test_a_client_that_is_killed_in_the_middle_of_its_upload_leaves_nothing_behind(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate, kind: str
) -> None:
    message: Any = pb.CritiqueRequest(edit=large_edit(), candidate=make_candidate())
    if kind == "stream":
        message = pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=large_edit()))
    async with serving() as (server, stub), SlowProxy(server.address, pace_s=math.inf) as proxy:
        proxy.budget = 1_000_000
        command = [sys.executable, "-c", UPLOADING, proxy.address, kind]
        client = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert client.stdin is not None
        await asyncio.to_thread(client.stdin.write, message.SerializeToString())
        client.stdin.close()
        await wait_for(lambda: proxy.passed == 1_000_000)
        if kind == "stream":
            assert server._service.open_streams == 1
        client.kill()
        client.wait()
        await wait_until(lambda: server._service.open_streams == 0)
        admission = server._hosts.admission
        await wait_until(lambda: (admission.count, admission.byte_count) == (0, 0))
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("next", 51))
        assert (await stub.Critique(request)).critique.scores.overall.value == pytest.approx(20.0)


async def wait_for(condition: Callable[[], bool]) -> None:
    """As `wait_until`, for what a new process does."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("the state was not reached")


async def test_a_stream_that_comes_byte_by_byte_is_idle_and_costs_nobody_else_an_answer(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with (
        serving(idle_timeout_s=0.5) as (server, stub),
        SlowProxy(server.address, pace_s=0.02) as proxy,
        connected(proxy.address) as slow_stub,
    ):
        stream = Stream(slow_stub.CritiqueStream())
        await stream.open(edit)
        proxy.slow_down()
        sending = asyncio.ensure_future(stream.send(candidate=make_candidate("slow")))
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("quick", 51))
        assert (await stub.Critique(request)).critique.candidate_id == "quick"
        assert (await refusal(stream.call.read())).reason == pb.ERROR_REASON_STREAM_IDLE
        await wait_until(lambda: server._service.open_streams == 0)
        await wait_until(lambda: server._hosts.admission.byte_count == 0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_call_that_comes_byte_by_byte_holds_no_room_and_ends_with_its_deadline(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with (
        serving() as (server, stub),
        SlowProxy(server.address, pace_s=0.02) as proxy,
        connected(proxy.address) as slow_stub,
    ):
        await slow_stub.ListCritics(pb.ListCriticsRequest())
        proxy.slow_down()
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("slow"))
        slow = asyncio.ensure_future(refusal(slow_stub.Critique(request, timeout=1.5)))
        await wait_until(lambda: proxy.passed > proxy.budget + 10)
        assert (server._hosts.admission.count, server._hosts.admission.byte_count) == (0, 0)
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("quick", 51))
        assert (await stub.Critique(request)).critique.candidate_id == "quick"
        assert (await slow).code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_a_call_whose_deadline_has_passed_is_never_judged(
    serving: Any, offer: Callable[[type], str], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    GatedCritic.reset()
    GatedCritic.gate.set()
    async with serving(critics=(offer(GatedCritic),)) as (_, stub):
        for timeout_s in (0.0, -1.0, 1e-9):
            request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("late"))
            late = await refusal(stub.Critique(request, timeout=timeout_s))
            assert late.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("early"))
        await stub.Critique(request)
        assert GatedCritic.asked == ["early"]


def open_files() -> int:
    return int(psutil.Process().num_fds())


@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="files are counted on POSIX only")
async def test_a_thousand_connections_leave_no_file_open(serving: Any) -> None:
    async with serving() as (server, stub):
        host, _, port = server.address.rpartition(":")
        await stub.ListCritics(pb.ListCriticsRequest())
        before = open_files()
        for _ in range(10):
            for silent in [socket.create_connection((host, int(port))) for _ in range(90)]:
                silent.close()
            for _ in range(10):
                async with connected(server.address) as other:
                    assert (await other.ListCritics(pb.ListCriticsRequest())).critics
        await wait_until(lambda: open_files() <= before + 4)
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics


async def test_two_hundred_idle_streams_cost_the_others_no_answer_and_leave_no_room_taken(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving() as (server, stub), connected(server.address) as other:
        idle = [Stream(stub.CritiqueStream()) for _ in range(200)]
        for begin in range(0, 200, 50):
            await asyncio.gather(*(each.open(edit) for each in idle[begin : begin + 50]))
        assert server._service.open_streams == 200
        requests = [
            pb.CritiqueRequest(edit=edit, candidate=make_candidate(f"c{level}", level)) for level in range(50)
        ]
        answers = await asyncio.gather(*(other.Critique(request) for request in requests))
        values = [answer.critique.scores.overall.value for answer in answers]
        assert values == pytest.approx([level / 2.55 for level in range(50)])
        for stream in idle:
            stream.call.cancel()
        await wait_until(lambda: server._service.open_streams == 0)
        admission = server._hosts.admission
        await wait_until(lambda: (admission.count, admission.byte_count) == (0, 0))
