"""The benchmark of serving: it counts what waiting costs, and every figure is there."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.load import Told, closed_loop, latency_figures, open_loop
from editcritic.plugin.serve_benchmark import ServeBench, measure_serving, serve_rows
from editcritic.plugin.serve_plot import draw_serve_plot

STALL_S = 0.4


class StallingStream:
    """Answers at once, except that its first candidate cannot be sent for a while."""

    def __init__(self) -> None:
        self.told, self.answered = Told(), asyncio.Semaphore(0)
        self.most_in_flight = self.in_flight = 0

    async def send(self, due: float) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0 if self.told.latencies_s else STALL_S)
        self.told.latencies_s.append(time.monotonic() - due)
        self.told.outcomes["judged"] += 1
        self.in_flight -= 1
        self.answered.release()


async def test_an_open_loop_counts_the_wait_of_those_that_could_not_be_sent() -> None:
    stream: Any = StallingStream()
    told = await open_loop([stream], rate=100.0, seconds=1.0, seed=3)
    assert told.outcomes == Counter(judged=100)
    # Those that were due in the first half of the stall waited through the second half of it.
    due = np.cumsum(np.random.default_rng(3).exponential(0.01, 100))
    hidden = int((due - due[0] < STALL_S / 2).sum())
    assert hidden > 5
    assert sum(latency > STALL_S / 2 for latency in told.latencies_s) >= hidden


async def test_a_closed_loop_hides_them_and_keeps_its_number_in_flight() -> None:
    stream: Any = StallingStream()
    told = await closed_loop([stream], in_flight=3, seconds=0.5)
    assert stream.most_in_flight == 3
    assert sum(latency > STALL_S / 2 for latency in told.latencies_s) <= 3
    assert told.rate == pytest.approx(told.outcomes["judged"] / told.seconds)


def test_percentiles_are_of_all_latencies() -> None:
    figures = latency_figures([number / 1000 for number in range(1, 1001)])
    assert figures == pytest.approx(
        {"p50": 500.5, "p90": 900.1, "p99": 990.01, "p99.9": 999.001, "max": 1000.0, "count": 1000}
    )
    assert latency_figures([]) == {"count": 0}


def test_every_figure_is_measured_told_and_drawn(tmp_path: Path) -> None:
    bench = ServeBench(
        "dummy@4+1", streams=4, connections=2, idle_streams=20, seconds=0.3, rounds=1, overload_count=32
    )
    said: list[str] = []
    result = measure_serving(bench, said.append)
    assert json.loads(json.dumps(result)) == result
    assert result["throughput"]["grpc"] > 0
    # Sixteen in a batch take 20 ms: no more than 800 a second.
    assert 0 < result["throughput"]["in_process"] <= 800
    assert result["overload"]["outcomes"]["judged"] > 0
    assert set(result["overload"]["outcomes"]) <= {"judged", "QUEUE_FULL"}
    assert result["latency"]["count"] == len(result["latencies_ms"]) > 0
    assert result["idle_streams"]["count"] == 20
    assert len(serve_rows(result)) == 7
    assert said
    draw_serve_plot(result, tmp_path / "latency.png")
    with Image.open(tmp_path / "latency.png") as drawn:
        assert drawn.size == (760, 440)
