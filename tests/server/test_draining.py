"""A server that stops: it says so first, finishes what is open within its grace, and takes nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from editcritic.plugin.channels import error_from_rpc
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ServerUnavailable
from tests.server.gated import GatedCritic
from tests.server.speaking import Stream, refusal, wait_until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]


async def test_while_it_stops_new_edits_are_unavailable_and_what_runs_is_finished(
    serving: Any, offer: Callable[[type], str], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    GatedCritic.reset()
    async with (
        serving(critics=(offer(GatedCritic),)) as (server, stub),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        running = asyncio.ensure_future(
            stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("running", 51)))
        )
        waiting = Stream(stub.CritiqueStream())
        await waiting.open(edit)
        await wait_until(lambda: GatedCritic.asked == ["running"])
        stopping = asyncio.create_task(server.stop(grace_s=3.0))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await waiting.next()).HasField("going_away")
        new = pb.CritiqueRequest(edit=edit, candidate=make_candidate("new"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Critique(new)
        assert isinstance(error_from_rpc(refused.value, server.address), ServerUnavailable)
        GatedCritic.gate.set()
        assert (await running).critique.scores.overall.value == pytest.approx(20.0)
        assert (await refusal(waiting.call.read())).code == UNAVAILABLE, "the grace is over"
        watch.cancel()
        await stopping
