"""Runs of the loop that replicas of Ray Serve carry out: the same as in one process, whatever dies or is taken back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest

from editcritic.plugin.refine_service import RefineService
from editcritic.refine.journal import Journal
from editcritic.server.app import CriticServer
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2, refine_pb2_grpc
from editcritic.v1.errors import Overloaded
from editcritic.v1.images import decode_image
from tests.server.conformance.staged import Stage
from tests.server.on_ray import TWO_REPLICAS, processes_of
from tests.server.speaking import as_error

pytestmark = pytest.mark.ray
takes_long = pytest.mark.skipif(
    not os.environ.get("EDITCRITIC_TESTS_LONG"), reason="a minute; make test-ray runs it"
)

Events = list[refine_pb2.RefineResponse]
Refining = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def refining(tmp_path: Path) -> Refining:
    """``async with refining("local") as stub``: RefineService with an engine and a journal of its own."""

    @asynccontextmanager
    async def start(
        executor: str, engine: str = "dummy", critics: tuple[str, ...] = ("staged", "dummy")
    ) -> AsyncIterator[Any]:
        journal = Journal(tmp_path / f"{executor}.sqlite3")

        def add(hosts: Any, server: Any) -> str:
            refine_pb2_grpc.add_RefineServiceServicer_to_server(
                RefineService(hosts, [engine], journal), server
            )
            return refine_pb2.DESCRIPTOR.services_by_name["RefineService"].full_name

        settings = ServerSettings(
            port=0,
            critics=critics,
            workers=2,
            warm_up=False,
            executor=executor,
            ray=TWO_REPLICAS,  # type: ignore[arg-type]
        )
        async with (
            CriticServer(settings, [add]) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            yield refine_pb2_grpc.RefineServiceStub(channel)

    return start


def asked_for(edit: pb.Edit, seed: int, name: str = "mine") -> refine_pb2.RefineRequest:
    request = refine_pb2.RefineRequest(edit=edit)
    request.edit.edit_id = name
    request.sampling.seed, request.sampling.candidate_count = seed, 3
    return request


async def events_of(call: Any) -> Events:
    """All events, or those that are left."""
    events: Events = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    # Raises where the call failed.
    assert await call.code() == grpc.StatusCode.OK, await call.details()
    return events


async def first(call: Any, kind: str) -> Events:
    """The events up to the first of a kind."""
    events: Events = []
    while not events or events[-1].WhichOneof("event") != kind:
        events.append(await call.read())
        assert events[-1] is not grpc.aio.EOF
    return events


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Processes of Ray take seconds to come and go."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the state was not reached"
        await asyncio.sleep(0.02)


def told(events: Events) -> list[tuple[int, str | None, str]]:
    return [(each.sequence, each.WhichOneof("event"), each.decision.reason) for each in events]


def check_same(found: Events, expected: Events) -> None:
    """Two runs of the same request: the same steps, scores and pixels."""
    assert told(found) == told(expected)
    result, wanted = found[-1].result, expected[-1].result
    assert (result.candidate_id, result.stop_reason) == (wanted.candidate_id, wanted.stop_reason)
    assert result.critique.scores.overall.value == pytest.approx(
        wanted.critique.scores.overall.value, abs=1e-4
    )
    np.testing.assert_array_equal(decode_image(result.image), decode_image(wanted.image))


async def test_a_replica_tells_what_a_run_in_this_process_tells(
    refining: Refining, ray_cluster: None, stage: Stage, edit: pb.Edit
) -> None:
    request = asked_for(edit, seed=4)
    request.acceptance.critic = "dummy"
    async with refining("local") as stub:
        expected = await events_of(stub.Refine(request))
        engines = await stub.ListEngines(refine_pb2.ListEnginesRequest())
    async with refining("ray") as stub:
        assert await stub.ListEngines(refine_pb2.ListEnginesRequest()) == engines
        found = await events_of(stub.Refine(request))
        check_same(found, expected)
        kept = await stub.GetEdit(refine_pb2.GetEditRequest(edit_id="mine"))
        assert told(list(kept.events)) == told(expected)
        # What is over is told from the journal, and nobody is asked again.
        asked = len(stage.asked)
        check_same(await events_of(stub.Refine(refine_pb2.RefineRequest(resume_edit_id="mine"))), expected)
        assert len(stage.asked) == asked
        request.sampling.strength = 0.5
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await events_of(stub.Refine(request))
        assert as_error(refused.value).field == "edit.edit_id"


async def test_a_run_whose_caller_left_stops_and_is_resumed_to_the_same_end(
    refining: Refining, ray_cluster: None, stage: Stage, edit: pb.Edit
) -> None:
    async with refining("local") as stub:
        expected = await events_of(stub.Refine(asked_for(edit, seed=5)))
    stage.clear()
    stage.close()
    async with refining("ray") as stub:
        call = stub.Refine(asked_for(edit, seed=5))
        seen = await first(call, "preview")
        await until(lambda: len(stage.asked) == 1)
        call.cancel()
        await until(stage.was_cancelled)
        stage.open()
        kept = await stub.GetEdit(refine_pb2.GetEditRequest(edit_id="mine"))
        assert told(list(kept.events))[: len(seen)] == told(seen)
        assert len(kept.events) < len(expected)
        assert len(stage.asked) == 1, "the run went on without its caller"
        check_same(await events_of(stub.Refine(refine_pb2.RefineRequest(resume_edit_id="mine"))), expected)


async def test_two_run_at_once_and_a_killed_replica_costs_neither_its_result(
    refining: Refining, ray_cluster: None, stage: Stage, edit: pb.Edit, caplog: pytest.LogCaptureFixture
) -> None:
    from editcritic.plugin.ray_engines import engine_application_name

    requests = [asked_for(edit, seed, f"edit-{seed}") for seed in (20, 30)]
    async with refining("local") as stub:
        expected = [await events_of(stub.Refine(request)) for request in requests]
    assert (
        decode_image(expected[0][-1].result.image).tolist()
        != decode_image(expected[1][-1].result.image).tolist()
    )
    stage.close()
    async with refining("ray") as stub:
        await until(lambda: len(processes_of(engine_application_name("dummy"))) == 2)
        calls = [stub.Refine(request) for request in requests]
        # A replica has one run at a time, so that each has its own.
        begun = await asyncio.gather(*(first(call, "preview") for call in calls))
        async with refining("ray", critics=("dummy",)) as second:
            # A front that comes now does not wait for a replica to tell it who it is.
            assert (await second.ListEngines(refine_pb2.ListEnginesRequest())).engines[0].name == "dummy"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await events_of(stub.Refine(asked_for(edit, 40, "one-too-many")))
        error = as_error(refused.value)
        assert isinstance(error, Overloaded)
        assert (error.reason, error.retry_after_s) == (pb.ERROR_REASON_QUEUE_FULL, 5.0)
        victim, _ = processes_of(engine_application_name("dummy"))
        victim.kill()
        await until(lambda: any("died" in record.message for record in caplog.records))
        stage.open()
        rest = await asyncio.gather(*map(events_of, calls))
        for before, after, wanted in zip(begun, rest, expected, strict=True):
            check_same(before + after, wanted)
        kept = await stub.GetEdit(refine_pb2.GetEditRequest(edit_id="edit-20"))
        assert told(list(kept.events)) == told(expected[0])


@takes_long
async def test_a_run_outlives_all_replicas(
    refining: Refining, ray_cluster: None, stage: Stage, edit: pb.Edit
) -> None:
    from editcritic.plugin.ray_engines import engine_application_name

    async with refining("local") as stub:
        expected = await events_of(stub.Refine(asked_for(edit, seed=50)))
    stage.close()
    async with refining("ray") as stub:
        application = engine_application_name("dummy")
        await until(lambda: len(processes_of(application)) == 2)
        call = stub.Refine(asked_for(edit, seed=50))
        begun = await first(call, "preview")
        for replica in processes_of(application):
            replica.kill()
        stage.open()
        check_same(begun + await events_of(call), expected)


@takes_long
async def test_a_trained_engine_paints_the_same_pixels_in_a_replica(
    refining: Refining, ray_cluster: None, stage: Stage, edit: pb.Edit
) -> None:
    async with refining("local", engine="tabletop") as stub:
        expected = await events_of(stub.Refine(asked_for(edit, seed=6)))
    async with refining("ray", engine="tabletop") as stub:
        check_same(await events_of(stub.Refine(asked_for(edit, seed=6))), expected)
        # A caller that leaves frees its replica, also in the middle of denoising.
        for seed in (7, 8, 9):
            call = stub.Refine(asked_for(edit, seed, f"left-{seed}"))
            await first(call, "candidate_started")
            call.cancel()
        found = await asyncio.gather(*(events_of(stub.Refine(asked_for(edit, 6, name))) for name in "ab"))
        for each in found:
            check_same(each, expected)


@contextmanager
def front(journal: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own process before the same replicas, and its address."""
    import ray

    own = ["--ray-address", ray.get_runtime_context().gcs_address, "--ray-replica-cpus", "0.1"]
    flags = ["--executor=ray", *own, "--critics=dummy", "--port=0", "--verdicts="]
    command = [sys.executable, "-c", "from editcritic.plugin.cli import main; main()", "serve", *flags]
    server = subprocess.Popen(
        [*command, "--engine=tabletop", "--journal", str(journal)], stderr=subprocess.PIPE, text=True
    )
    assert server.stderr
    try:
        address = next(line.split()[3] for line in server.stderr if line.startswith("editcritic listens"))
        yield server, address
    finally:
        server.kill()
        server.communicate()


@takes_long
def test_what_a_front_had_begun_when_it_was_killed_is_resumed_by_the_next(
    ray_cluster: None, tmp_path: Path, edit: pb.Edit
) -> None:
    def stub_of(address: str) -> Any:
        return refine_pb2_grpc.RefineServiceStub(grpc.insecure_channel(address))

    with front(tmp_path / "journal.sqlite3") as (server, address):
        expected = list(stub_of(address).Refine(asked_for(edit, 6, "whole"), timeout=120))
        call = stub_of(address).Refine(asked_for(edit, 6), timeout=120)
        begun = [next(call) for _ in range(3)]
        server.kill()
    # The one replica has to have noticed, or it would have no room.
    with front(tmp_path / "journal.sqlite3") as (server, address):
        stub = stub_of(address)
        found = list(stub.Refine(refine_pb2.RefineRequest(resume_edit_id="mine"), timeout=120))
        assert found[:3] == begun
        check_same(found, expected)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
