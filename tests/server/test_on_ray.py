"""The suite of a server's conduct, with critics in replicas of Ray Serve; and what happens when one of them dies."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from editcritic.server.executors.ray_cluster import application_name
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.v1 import critic_pb2 as pb
from tests.conftest import ServerFactory
from tests.server.conformance.calls import *  # noqa: F403
from tests.server.conformance.crowds import *  # noqa: F403
from tests.server.conformance.crowds import BATCHED, MakeCandidate, crowd
from tests.server.conformance.faults import *  # noqa: F403
from tests.server.conformance.streams import *  # noqa: F403
from tests.server.speaking import wait_until

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'editcritic[ray]'")
pytestmark = pytest.mark.ray

STORE_BYTES = 80 * 2**20
RAY = RaySettings(
    replicas=2,
    replica_cpus=0.1,
    per_critic=("staged?replicas=1&max_ongoing=1", "evidence?replicas=1", "network?replicas=1"),
)


@pytest.fixture(scope="session")
def cluster(stage_folder: Path) -> Iterator[None]:
    """A Ray of this session alone, small, which knows the staged critic."""
    # Not below pytest's own folder: its sockets' names would be too long.
    folder = tempfile.mkdtemp(prefix="ec-ray-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.delenv("RAY_ADDRESS", raising=False)
        # Replicas import the staged critic from where the tests are.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
        ray.init(
            address="local",
            num_cpus=2,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"worker_process_setup_hook": "tests.server.conformance.staged.register"},
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            from ray import serve

            serve.shutdown()
            ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def serving(cluster: None, serving: ServerFactory) -> ServerFactory:
    """A front with the replicas that are there already, or that it deploys."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Any]:
        async with serving(**{"executor": "ray", "ray": RAY, **settings}) as both:
            yield both

    return start


def replicas_of(spec: str) -> list[psutil.Process]:
    """The processes of a critic that this session's Ray runs."""
    title = f"ServeReplica:{application_name(spec)}"
    running = psutil.Process().children(recursive=True)
    return [process for process in running if title in " ".join(process.cmdline())]


async def test_a_replica_that_is_killed_under_load_costs_nobody_an_answer(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(critics=(BATCHED,)) as (_, stub):
        is_over = asyncio.Event()

        async def load() -> int:
            rounds = 0
            while not is_over.is_set():
                await crowd(stub, edit, make_candidate)
                rounds += 1
            return rounds

        working = asyncio.create_task(load())
        await wait_until(lambda: len(replicas_of(BATCHED)) == 2)
        victim, survivor = replicas_of(BATCHED)
        # Halted first, so that it surely has batches when it dies.
        victim.suspend()
        await asyncio.sleep(0.3)
        victim.kill()
        await wait_until(lambda: any("died" in record.message for record in caplog.records))
        is_over.set()
        assert await working
        assert survivor.is_running()
        await crowd(stub, edit, make_candidate)
