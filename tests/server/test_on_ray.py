"""The suite of a server's conduct, with critics in replicas of Ray Serve; and what happens when one of them dies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from editcritic.v1 import critic_pb2 as pb
from tests.conftest import ServerFactory
from tests.server.conformance.calls import *  # noqa: F403
from tests.server.conformance.crowds import *  # noqa: F403
from tests.server.conformance.crowds import BATCHED, MakeCandidate, crowd
from tests.server.conformance.faults import *  # noqa: F403
from tests.server.conformance.streams import *  # noqa: F403
from tests.server.on_ray import replicas_of
from tests.server.speaking import wait_until

pytestmark = pytest.mark.ray


@pytest.fixture
def serving(serving_on_ray: ServerFactory) -> ServerFactory:
    """For the suite."""
    return serving_on_ray


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
