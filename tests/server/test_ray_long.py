"""What takes minutes of Ray: several fronts, settings that change under load, deaths one after the other, the command.

``make test-ray`` runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc, refine_pb2, refine_pb2_grpc
from tests.conftest import ServerFactory
from tests.server.conformance.crowds import BATCHED, MakeCandidate, call, check_numbers, crowd
from tests.server.conformance.staged import Stage
from tests.server.on_ray import STORE_BYTES, TWO_REPLICAS, replicas_of
from tests.server.speaking import refusal

LONG_VARIABLE = "EDITCRITIC_TESTS_LONG"
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not os.environ.get(LONG_VARIABLE), reason="minutes; make test-ray runs it"),
]


@contextlib.asynccontextmanager
async def load(stub: Any, edit: pb.Edit, make_candidate: MakeCandidate) -> AsyncIterator[list[int]]:
    """Crowds one after the other, each checked, as long as the block lasts; counts them."""
    is_over, rounds = asyncio.Event(), [0]

    async def work() -> None:
        while not is_over.is_set():
            await crowd(stub, edit, make_candidate)
            rounds[0] += 1

    working = asyncio.create_task(work())
    try:
        yield rounds
    finally:
        is_over.set()
        await working


async def until(condition: Any, timeout_s: float = 90.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the state was not reached"
        await asyncio.sleep(0.1)


def pids(spec: str) -> set[int]:
    return {process.pid for process in replicas_of(spec)}


async def test_deaths_one_after_the_other_cost_nobody_an_answer(
    serving_on_ray: ServerFactory, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving_on_ray(critics=(BATCHED,)) as (_, stub), load(stub, edit, make_candidate) as rounds:
        for _ in range(4):
            await until(lambda: len(pids(BATCHED)) == 2)
            before = rounds[0]
            replicas_of(BATCHED)[0].kill()
            await until(lambda before=before: rounds[0] > before)


async def test_a_candidate_that_kills_its_replica_fails_and_the_next_is_judged(
    serving_on_ray: ServerFactory, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving_on_ray(critics=("staged",)) as (_, stub):
        deadly = pb.Edit.FromString(edit.SerializeToString())
        deadly.prompt = "die"
        error = await refusal(stub.Critique(pb.CritiqueRequest(edit=deadly, candidate=make_candidate("a"))))
        assert error.reason == pb.ERROR_REASON_CRITIC_FAILED
        assert stage.asked == ["a"] * 3
        await call(stub, edit, make_candidate("b", 200), 200)


async def test_fronts_share_the_replicas_and_leave_them_to_one_another(
    serving_on_ray: ServerFactory, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving_on_ray(critics=(BATCHED,)) as (_, first):
        await until(lambda: len(pids(BATCHED)) == 2)
        before = pids(BATCHED)
        async with serving_on_ray(critics=(BATCHED,)) as (_, second):
            await asyncio.gather(crowd(first, edit, make_candidate), crowd(second, edit, make_candidate))
        await crowd(first, edit, make_candidate)
        assert pids(BATCHED) == before


async def test_other_settings_replace_the_replicas_under_load(
    serving_on_ray: ServerFactory, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    other = replace(TWO_REPLICAS, max_ongoing=3)
    async with (
        serving_on_ray(critics=(BATCHED,)) as (_, first),
        load(first, edit, make_candidate),
    ):
        before = pids(BATCHED)
        async with serving_on_ray(critics=(BATCHED,), ray=other) as (_, second):
            await crowd(second, edit, make_candidate)
            await until(lambda: len(pids(BATCHED) - before) == 2)


async def test_the_number_of_replicas_follows_the_load(
    serving_on_ray: ServerFactory, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    spec = "dummy@50+1"
    scaled = replace(TWO_REPLICAS, replicas=1, max_replicas=2, per_critic=())
    async with serving_on_ray(critics=(spec,), ray=scaled) as (_, stub):
        assert len(pids(spec)) == 1
        async with load(stub, edit, make_candidate):
            await until(lambda: len(pids(spec)) == 2)


async def test_the_network_gives_the_same_numbers(
    serving_on_ray: ServerFactory, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    await check_numbers("network", serving_on_ray, edit, make_candidate)


async def test_the_last_front_takes_its_deployments_with_it_where_it_is_told_to(
    serving_on_ray: ServerFactory, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    spec = "dummy@1"
    async with serving_on_ray(critics=(spec,), ray=replace(TWO_REPLICAS, delete_on_stop=True)) as (_, stub):
        await call(stub, edit, make_candidate("a", 9), 9)
        assert pids(spec)
    await until(lambda: not pids(spec))


def test_one_command_starts_it_all_and_its_end_ends_it_all(
    edit: pb.Edit, make_candidate: MakeCandidate, tmp_path: Path
) -> None:
    file = tmp_path / "ray.toml"
    file.write_text(
        'executor = "ray"\ncritics = ["dummy"]\nport = 0\nverdicts = ""\n'
        f"[ray]\nreplicas = 2\nreplica_cpus = 0.1\nobject_store_bytes = {STORE_BYTES}\n"
        'per_engine = ["dummy?replicas=1"]\n'
    )
    folder = tempfile.mkdtemp(prefix="ec-ray-", dir="/tmp")
    environment = {**os.environ, "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": folder}
    command = [sys.executable, "-c", "from editcritic.plugin.cli import main; main()", "serve"]
    server = subprocess.Popen(
        [
            *command,
            "--config",
            str(file),
            "--engine",
            "dummy",
            "--journal",
            str(tmp_path / "journal.sqlite3"),
        ],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr
    try:
        address = next(line.split()[3] for line in server.stderr if line.startswith("editcritic listens"))
        family = psutil.Process(server.pid).children(recursive=True)
        titles = [" ".join(each.cmdline()) for each in family]
        assert sum("ServeReplica:editcritic-dummy" in title for title in titles) == 2
        assert sum("ServeReplica:editcritic-engine-dummy" in title for title in titles) == 1
        with grpc.insecure_channel(address) as channel:
            stub = critic_pb2_grpc.CriticServiceStub(channel)
            request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 204))
            assert stub.Critique(request, timeout=60).critique.scores.overall.value == pytest.approx(80)
            wanted = refine_pb2.RefineRequest(edit=edit)
            events = list(refine_pb2_grpc.RefineServiceStub(channel).Refine(wanted, timeout=60))
            assert events[-1].HasField("result")
        server.send_signal(signal.SIGTERM)
        _, told = server.communicate(timeout=60)
        assert server.returncode == 0, told
        assert "Traceback" not in told
        _, left = psutil.wait_procs(family, timeout=20)
        assert left == []
    finally:
        server.kill()
