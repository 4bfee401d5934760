"""What the way to a replica and back costs: ``python -m tests.server.ray_cost`` (a minute; two cores are enough)."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import numpy as np

from editcritic.server.app import CriticServer
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.images import encode_mask, raw_image
from tests.server.on_ray import STORE_BYTES, small_ray
from tests.server.speaking import Stream

ROUNDS, EACH = 7, 60


def settings(executor: Any, critic: str, replicas: int = 1) -> ServerSettings:
    ray = RaySettings(replicas=replicas, replica_cpus=0.1, object_store_bytes=STORE_BYTES)
    return ServerSettings(port=0, critics=(critic,), workers=1, executor=executor, ray=ray)


def edit_of(side: int) -> tuple[pb.Edit, pb.Candidate]:
    """An edit and a candidate of raw pixels, so that no picture is decoded."""
    picture = np.random.default_rng(side).integers(0, 255, (side, side, 3)).astype(np.uint8)
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 1
    edit = pb.Edit(source=raw_image(picture), denoise_mask=encode_mask(mask))
    return edit, pb.Candidate(image=raw_image(picture))


async def latencies_ms(stub: Any, side: int) -> list[float]:
    """Milliseconds from sending a candidate on an open stream to its critique, one at a time."""
    edit, candidate = edit_of(side)
    stream, found = Stream(stub.CritiqueStream()), []
    await stream.open(edit)
    for number in range(EACH):
        candidate.candidate_id = f"c{number}"
        began = time.perf_counter()
        await stream.send(candidate=candidate)
        while not (await stream.next()).HasField("critique"):
            pass
        found.append(1000 * (time.perf_counter() - began))
    await stream.finish()
    return found


async def per_second(stub: Any, streams: int = 16, count: int = 20) -> float:
    """Candidates a second of several streams that have sixteen on the way each."""
    edit, candidate = edit_of(256)

    async def one(number: int) -> None:
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        for each in range(count):
            await stream.send(candidate=pb.Candidate(candidate_id=f"{number}-{each}", image=candidate.image))
        await stream.finish()

    began = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(streams)))
    return streams * count / (time.perf_counter() - began)


async def measure() -> None:
    """Print a line for each comparison."""
    async with AsyncExitStack() as stack:

        async def stub_of(*args: Any) -> Any:
            server = await stack.enter_async_context(CriticServer(settings(*args)))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            return critic_pb2_grpc.CriticServiceStub(channel)

        here, there = await stub_of("local", "dummy"), await stub_of("ray", "dummy")
        for side in (256, 1024):
            added, base = [], []
            for _ in range(ROUNDS):
                alone = statistics.median(await latencies_ms(here, side))
                base.append(alone)
                added.append(statistics.median(await latencies_ms(there, side)) - alone)
            low, middle, high = statistics.quantiles(added, n=4)
            print(
                f"{side} px: {statistics.median(base):.1f} ms here,"
                f" {middle:.1f} ms more by Ray ({low:.1f} to {high:.1f})"
            )
        slow = {
            "local": await stub_of("local", "dummy@20+5"),
            "one replica": await stub_of("ray", "dummy@20+5", 1),
            "two replicas": await stub_of("ray", "dummy@20.0+5", 2),
        }
        for name, stub in slow.items():
            rates = [await per_second(stub) for _ in range(3)]
            print(f"{name}: {statistics.median(rates):.0f} candidates a second")


def main() -> None:
    """Measure on a Ray of its own."""
    import os
    import tempfile

    os.environ["EDITCRITIC_TESTS_STAGE"] = tempfile.mkdtemp()
    with small_ray():
        asyncio.run(measure())


if __name__ == "__main__":
    main()
