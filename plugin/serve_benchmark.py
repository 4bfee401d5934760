"""What serving costs and withstands: throughput, added latency, latency under load, and overload.

The server runs in a process of its own on loopback. Figures that are compared are measured in turns within one run, so
that other load on the machine touches both; the machine's load is told with them.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from editcritic.plugin.benchmark import REGION_PX, example_edit, machine_facts
from editcritic.plugin.client import make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.plugin.load import (
    Load,
    LoadStream,
    Told,
    closed_loop,
    latency_figures,
    open_loop,
    open_streams,
)
from editcritic.server.critics import critic_name, load_critic
from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate
from editcritic.v1 import critic_pb2 as pb

__all__ = ["ServeBench", "crop_of", "measure_serving", "serve_rows"]

_WARM_UP_S = 1.0
_NO_TARGET_S = 60.0


@dataclass(frozen=True)
class ServeBench:
    """What to measure.

    Attributes:
        critic: full name of the registry; `dummy@20+5` sleeps 20 ms for a batch and 5 ms for each candidate.
        workers: of the server, and of the critic called in this process.
        streams: open at the same time. connections: callers that they are spread over. idle_streams: for the memory.
        seconds: of each measurement. rounds: of those that are compared in turns.
        overload_count: candidates offered in each round of overload, at least; several times what the server admits.
        load: share of the saturation for the latency. overload: multiple of it for the overload. seed: of the arrivals.
    """

    critic: str = "dummy@20+5"
    workers: int = 1
    streams: int = 32
    connections: int = 4
    idle_streams: int = 2000
    seconds: float = 5.0
    rounds: int = 3
    load: float = 0.8
    overload: float = 5.0
    overload_count: int = 1024
    seed: int = 1


def measure_serving(
    bench: ServeBench, progress: Callable[[str], object] = lambda _text: None
) -> dict[str, Any]:
    """Run all of it.

    Args:
        bench: what to measure.
        progress: told what is being measured.

    Returns:
        `throughput` (candidates a second over gRPC and in this process, and their ratio), `added_latency_ms`, `latency`
        (percentiles at a share of the saturation), `overload` (goodput and outcomes), `idle_streams` (memory of each),
        and the machine with its load before and after.

    Raises:
        EditCriticError: there is no such critic, or the server could not be started.
    """
    critic = load_critic(bench.critic)
    # Batches as large as in this process, however slow the machine is.
    flags = ["--no-verdicts", f"--workers={bench.workers}", f"--batch-target-s={_NO_TARGET_S}"]
    with EmbeddedServer([bench.critic], flags) as server:
        return asyncio.run(_Measuring(bench, critic, server).run(progress))


def serve_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures as (name, value) for a table."""
    rate, added, late, over = (
        result[name] for name in ("throughput", "added_latency_ms", "latency", "overload")
    )
    idle, machine = result["idle_streams"], result["machine"]
    percentiles = ", ".join(f"{name} {late[name]:.3g}" for name in ("p50", "p90", "p99", "p99.9", "max"))
    outcomes = ", ".join(f"{count} {name.lower()}" for name, count in sorted(over["outcomes"].items()))
    return [
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, load {result['load_average']}"),
        ("critic", f"{result['critic']}, {result['workers']} workers, {result['streams']} streams"),
        ("over gRPC", f"{rate['grpc']:.4g}/s, {rate['ratio']:.1%} of {rate['in_process']:.4g}/s in process"),
        (f"added latency, one {REGION_PX}-px crop", f"{added['median']:.3g} ms (quartiles {_range(added)})"),
        (f"at {late['rate']:.3g}/s, ms", f"{percentiles}; p99 is {late['p99_to_p50']:.2g}x p50"),
        (
            f"offered {over['offered']:.4g}/s",
            f"goodput {over['goodput_to_peak']:.1%} of the peak: {outcomes}",
        ),
        ("idle streams", f"{idle['count']}, {idle['kib_each']:.3g} KiB each"),
    ]


def _range(figure: dict[str, float]) -> str:
    return f"{figure['low']:.3g} to {figure['high']:.3g}"


class _Measuring:
    def __init__(self, bench: ServeBench, critic: Critic, server: EmbeddedServer) -> None:
        self._bench, self._critic, self._server = bench, critic, server
        self._edit, self._candidate = example_edit()
        options = pb.CritiqueOptions(critic=critic_name(bench.critic))
        self._load = Load(
            make_edit(self._edit.source, self._edit.denoise_mask), crop_of(self._candidate), options
        )
        self._task = CritiqueTask(self._edit, critic.prepare(self._edit), self._candidate)

    async def run(self, progress: Callable[[str], object]) -> dict[str, Any]:
        bench, before = self._bench, os.getloadavg()[0]
        address = self._server.address
        async with open_streams(address, self._load, 1) as (alone,):
            # First, while no memory of other work lies about to be used again.
            progress(f"{bench.idle_streams} idle streams")
            idle = await self._idle_streams(alone)
            progress("added latency")
            added = await self._added_latency(alone)
        async with open_streams(address, self._load, bench.streams, bench.connections) as streams:
            await closed_loop(streams, 1, _WARM_UP_S)
            progress("throughput")
            throughput, peak = await self._throughput(streams)
            progress(f"latency at {bench.load:.0%} of the saturation")
            late = await open_loop(streams, bench.load * peak, bench.seconds * bench.rounds, bench.seed)
            progress(f"overload of {bench.overload:g}")
            overload = await self._overload(streams)
        figures = latency_figures(late.latencies_s)
        return {
            "critic": bench.critic,
            "workers": bench.workers,
            "streams": bench.streams,
            "machine": machine_facts(),
            "load_average": [round(before, 1), round(os.getloadavg()[0], 1)],
            "throughput": throughput,
            "added_latency_ms": added,
            "latency": figures | {"rate": bench.load * peak, "p99_to_p50": figures["p99"] / figures["p50"]},
            "overload": overload,
            "idle_streams": idle,
            "latencies_ms": [round(1000 * each, 3) for each in late.latencies_s],
        }

    async def _added_latency(self, stream: LoadStream) -> dict[str, float]:
        """Of one candidate at a time on an open stream over the critic alone, taken in turns, in milliseconds."""
        differences = []
        for number in range(10 * self._bench.rounds + 1):
            began = time.perf_counter()
            await asyncio.to_thread(self._critic.critique, [self._task], _never)
            alone = time.perf_counter() - began
            began = time.perf_counter()
            await stream.send(time.monotonic())
            await stream.answered.acquire()
            if number:
                differences.append(1000 * (time.perf_counter() - began - alone))
        low, median, high = np.percentile(differences, (25, 50, 75))
        return {"median": float(median), "low": float(low), "high": float(high), "count": len(differences)}

    async def _throughput(self, streams: list[LoadStream]) -> tuple[dict[str, float], float]:
        """Over gRPC with the queue always full, and in this process with full batches, in turns."""
        bench = self._bench
        served, here = [], []
        for _ in range(bench.rounds):
            told = await closed_loop(streams, max(1, 64 // bench.streams), bench.seconds)
            served.append(told.rate)
            here.append(await asyncio.to_thread(self._in_process_rate))
        ratios = [ours / theirs for ours, theirs in zip(served, here, strict=True)]
        figures = {"grpc": statistics.median(served), "in_process": statistics.median(here)}
        return figures | {"ratio": statistics.median(ratios)}, statistics.median(served)

    def _in_process_rate(self) -> float:
        batch = [self._task] * max(1, self._critic.info.batch_count)
        began = time.monotonic()

        def work() -> int:
            count = 0
            while time.monotonic() < began + self._bench.seconds:
                count += len(self._critic.critique(batch, _never))
            return count

        with ThreadPoolExecutor(self._bench.workers) as pool:
            counts = list(pool.map(lambda _number: work(), range(self._bench.workers)))
        return sum(counts) / (time.monotonic() - began)

    async def _overload(self, streams: list[LoadStream]) -> dict[str, Any]:
        """Goodput under several times the saturation, over that at the saturation, in turns."""
        bench, ratios, whole = self._bench, [], Told()
        for number in range(bench.rounds):
            peak = (await closed_loop(streams, max(1, 64 // bench.streams), bench.seconds)).rate
            rate = bench.overload * peak
            # Long enough to fill the server's queue several times over.
            seconds = max(bench.seconds, bench.overload_count / rate)
            told = await open_loop(streams, rate, seconds, bench.seed + 1 + number)
            ratios.append(told.rate / peak)
            whole.outcomes += told.outcomes
            whole.latencies_s += told.latencies_s
        return {
            "offered": rate,
            "goodput_to_peak": statistics.median(ratios),
            "outcomes": dict(whole.outcomes),
            "latency_ms": latency_figures(whole.latencies_s),
        }

    async def _idle_streams(self, other: LoadStream) -> dict[str, float]:
        """What the server's memory grows by for each open stream on which nothing happens."""
        bench, pid = self._bench, self._server.pid
        await closed_loop([other], 1, _WARM_UP_S)
        before = _resident_kib(pid)
        began = time.perf_counter()
        async with open_streams(self._server.address, self._load, bench.idle_streams, bench.connections):
            opening_s = time.perf_counter() - began
            grown = _resident_kib(pid) - before
            # The others are answered as before.
            told = await closed_loop([other], 1, _WARM_UP_S)
        return {
            "count": bench.idle_streams,
            "kib_each": grown / bench.idle_streams,
            "opening_s": opening_s,
            "judged_beside_them": told.outcomes["judged"],
        }


def _resident_kib(pid: int | None) -> float:
    """Resident memory of a process; not a number where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((float(line.split()[1]) for line in lines if line.startswith("VmRSS:")), float("nan"))


def crop_of(candidate: DecodedCandidate) -> pb.Candidate:
    """The part of the picture that was filled, as raw pixels: what an editor on the same machine sends."""
    part = candidate.image[128 : 128 + REGION_PX, 384 : 384 + REGION_PX]
    raw = pb.RawImage(
        pixel_format=pb.PIXEL_FORMAT_RGB8, width=REGION_PX, height=REGION_PX, data=part.tobytes()
    )
    region = pb.Box(x=384, y=128, width=REGION_PX, height=REGION_PX)
    return pb.Candidate(image=pb.Image(raw=raw), region=region)


def _never() -> bool:
    return False
