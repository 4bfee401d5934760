"""What a run costs more behind Ray: ``python -m tests.server.ray_engine_cost`` (a minute; two cores are enough)."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio

from editcritic.plugin.cli.serve import refining
from editcritic.server.app import CriticServer
from editcritic.v1 import refine_pb2, refine_pb2_grpc
from tests.server.on_ray import small_ray
from tests.server.ray_cost import edit_of, settings

ROUNDS = 15


async def run_ms(stub: Any, side: int, seed: int) -> tuple[float, int]:
    """Milliseconds of a run of four candidates, and how often a critic was asked."""
    request = refine_pb2.RefineRequest(edit=edit_of(side)[0])
    request.sampling.seed = seed
    request.budget.repair_round_count = 0
    began = time.perf_counter()
    events = [event async for event in stub.Refine(request)]
    assert events[-1].HasField("result")
    return 1000 * (time.perf_counter() - began), sum(event.HasField("critique") for event in events)


async def measure() -> None:
    """Print a line for each size."""
    async with AsyncExitStack() as stack:

        async def stub_of(executor: str) -> Any:
            journal = Path(tempfile.mkdtemp()) / "journal.sqlite3"
            server = CriticServer(settings(executor, "dummy"), [refining(["dummy"], journal)])
            await stack.enter_async_context(server)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            return refine_pb2_grpc.RefineServiceStub(channel)

        here, there = await stub_of("local"), await stub_of("ray")
        for side in (256, 1024):
            base, added, each = [], [], []
            for seed in range(ROUNDS):
                alone, _ = await run_ms(here, side, seed)
                behind, asked = await run_ms(there, side, seed)
                base.append(alone)
                added.append(behind - alone)
                each.append((behind - alone) / asked)
            low, middle, high = statistics.quantiles(added, n=4)
            print(
                f"{side} px: {statistics.median(base):.0f} ms here, {middle:.0f} ms more by Ray ({low:.0f} to"
                f" {high:.0f}), {statistics.median(each):.0f} ms for each critique"
            )


def main() -> None:
    """Measure on a Ray of its own."""
    os.environ["EDITCRITIC_TESTS_STAGE"] = tempfile.mkdtemp()
    with small_ray():
        asyncio.run(measure())


if __name__ == "__main__":
    main()
