"""Faults beneath the calls: noise on the port, half-open peers, damaged weights, and sides of another version."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.v1 import critic_pb2 as pb
from tests.server.speaking import Stream, refusal

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NOISE = {
    "random bytes": random.Random(5).randbytes(65_536),
    "an http/1 request": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tls hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a preface and noise": PREFACE + random.Random(6).randbytes(4096),
    "a frame that claims 16 MB": PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + bytes(1000),
    "ten thousand settings": PREFACE + bytes.fromhex("000000040000000000") * 10_000,
    "a preface and silence": PREFACE,
    "nothing": b"",
}


@pytest.mark.parametrize("case", NOISE)
async def test_noise_on_the_port_costs_nobody_else_an_answer(serving: Any, case: str) -> None:
    async with serving() as (server, stub):
        host, _, port = server.address.rpartition(":")
        connections = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
        for _, writer in connections:
            # The server may close while we still write.
            with contextlib.suppress(ConnectionError):
                writer.write(NOISE[case])
                await writer.drain()
        assert (await stub.ListCritics(pb.ListCriticsRequest(), timeout=30)).critics
        for _, writer in connections:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert (await stub.ListCritics(pb.ListCriticsRequest(), timeout=30)).critics


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def claim_a_huge_header(file: Path) -> None:
    file.write_bytes(b"\xff" * 7 + b"\x7f" + file.read_bytes()[8:])


def be_a_pickle(file: Path) -> None:
    # "cos\nsystem" would run a command if anything unpickled it.
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(file.with_name("owned")).encode() + b"'\ntR.")


def be_empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, claim_a_huge_header, be_a_pickle, be_empty])
async def test_damaged_weights_leave_the_other_critics_serving(
    serving: Any,
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS, folder)
    damage(folder / "network.safetensors")
    async with serving(critics=("dummy", f"network@{folder}")) as (_, stub):
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
        assert (await stub.Critique(request)).critique.critic.name == "dummy"
        request.options.critic = "network"
        error = await refusal(stub.Critique(request))
        assert error.reason == pb.ERROR_REASON_CRITIC_UNAVAILABLE
        assert str(folder) not in error.message, "a client learns nothing of the server's folders"
    assert not (folder / "owned").exists()


async def test_fields_and_values_of_a_newer_client_are_passed_over(
    serving: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    import grpc.aio

    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
    newer_field = bytes([0xFA, 0x7F, 3]) + b"new"  # field 2047, three bytes
    async with serving() as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/editcritic.v1.CriticService/Critique")
        answer = await call(request.SerializeToString() + newer_field)
        assert pb.CritiqueResponse.FromString(answer).critique.candidate_id == "a"
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await channel.unary_unary("/editcritic.v1.CriticService/CritiqueOfTheFuture")(b"")
        assert told.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_an_older_client_that_names_no_revision_is_served(stub: Any, edit: pb.Edit) -> None:
    stream = Stream(stub.CritiqueStream())
    await stream.send(open=pb.OpenEdit(edit=edit, protocol_revision=0))
    assert (await stream.next()).opened.protocol_revision == 1
    assert (await stream.finish())[-1].HasField("closed")
