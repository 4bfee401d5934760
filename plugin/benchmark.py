"""Measures the critic on this machine: alone, over gRPC, from a cold start, and its memory.

Figures that are compared are measured in turns within one run, so that other load on the machine touches both.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage import data

from editcritic.plugin.client import Client, make_candidate, make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.server.critics import DEFAULT_CRITIC, load_critic
from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, DecodedEdit

__all__ = ["benchmark_rows", "example_edit", "machine_facts", "peak_memory_mib", "run_benchmark"]

REGION_PX = 256
WINDOW_PX = 320
"""What the network critic looks at around such a region; the yardstick is timed at this size."""
BATCH = 16
_COLD_STARTS = 3
_VERSIONS = ("editcritic", "numpy", "opencv-python-headless", "scipy", "grpcio", "protobuf")

Measure = Callable[[], object]


def run_benchmark(
    *, repeats: int, progress: Callable[[str], object] = lambda _text: None, critic: str = DEFAULT_CRITIC
) -> dict[str, Any]:
    """Measure one critic.

    Args:
        repeats: measurements of each figure, 1 or more.
        progress: told what is being measured.
        critic: name in the registry.

    Returns:
        ``machine``, ``in_process`` (milliseconds), ``grpc`` (milliseconds, and ratios of medians to the same
        work in this process), ``cold_start_s`` and ``peak_memory_mib``; every timing is a dict of median,
        lower and upper quartile and count.

    Raises:
        NotFound: there is no critic of that name.
        ServerUnavailable: the server could not be started.
    """
    judged, edit, candidate = load_critic(critic), *example_edit()
    progress("in this process")
    in_process = _in_process(judged, edit, candidate, repeats)
    progress("over gRPC")
    grpc, memory_mib = _over_grpc(critic, judged, edit, candidate, repeats)
    progress("cold start")
    cold = _summary([_cold_start_s(critic, edit, candidate) for _ in range(min(repeats, _COLD_STARTS))])
    return {
        "critic": critic,
        "region_px": REGION_PX,
        "machine": machine_facts(),
        "in_process": in_process,
        "grpc": grpc,
        "cold_start_s": cold,
        "peak_memory_mib": memory_mib,
    }


def benchmark_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures as (name, value) for a table."""
    alone, grpc, memory = result["in_process"], result["grpc"], result["peak_memory_mib"]
    machine = result["machine"]
    return [
        ("machine", f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}"),
        ("prepare one edit", _shown(alone["prepare_ms"], "ms")),
        ("critique, batch of 1", _shown(alone["critique_batch_1_ms"], "ms")),
        (f"critique, batch of {BATCH}, each", _shown(alone[f"critique_batch_{BATCH}_ms_each"], "ms")),
        (f"MobileNetV3-Small at {WINDOW_PX} px", _shown(alone["mobilenet_v3_small_ms"], "ms")),
        ("critique, batch of 1, to it", f"{alone['ratio_to_mobilenet_v3_small']['median']:.1f}x"),
        ("call over gRPC", _shown(grpc["call_ms"], "ms")),
        ("  to the same work in process", f"{grpc['call_ratio']:.2f}x"),
        ("candidate on an open stream", _shown(grpc["stream_ms"], "ms")),
        ("  to the same work in process", f"{grpc['stream_ratio']:.2f}x"),
        ("cold start to the first critique", _shown(result["cold_start_s"], "s")),
        ("peak memory of the server", "unknown" if memory is None else f"{memory:.0f} MiB"),
    ]


def example_edit() -> tuple[DecodedEdit, DecodedCandidate]:
    """A photograph of 768 x 512 with a square of 256 to fill, and a fill with a soft fault."""
    coffee = np.asarray(data.coffee(), np.uint8)  # type: ignore[no-untyped-call]
    photo = np.asarray(cv2.resize(coffee, (768, 512), interpolation=cv2.INTER_AREA), np.uint8)
    mask = np.zeros(photo.shape[:2], np.float32)
    mask[128 : 128 + REGION_PX, 384 : 384 + REGION_PX] = 1.0
    source = np.where(mask[..., None] > 0, np.uint8(128), photo)
    picture = np.where(mask[..., None] > 0, cv2.GaussianBlur(photo, (0, 0), 2.0), photo).astype(np.uint8)
    return DecodedEdit("bench", source, mask), DecodedCandidate("bench", picture)


def _in_process(
    critic: Critic, edit: DecodedEdit, candidate: DecodedCandidate, repeats: int
) -> dict[str, dict[str, float]]:
    task = CritiqueTask(edit, critic.prepare(edit), candidate)
    batch = [task] * BATCH
    times = _in_turns(
        repeats,
        prepare=lambda: critic.prepare(edit),
        one=lambda: critic.critique([task], _never),
        many=lambda: critic.critique(batch, _never),
        yardstick=_yardstick(),
    )
    ratios = [one / other for one, other in zip(times["one"], times["yardstick"], strict=True)]
    return {
        "mobilenet_v3_small_ms": _milliseconds(times["yardstick"]),
        "ratio_to_mobilenet_v3_small": {"median": statistics.median(ratios), "count": len(ratios)},
        "prepare_ms": _milliseconds(times["prepare"]),
        "critique_batch_1_ms": _milliseconds(times["one"]),
        f"critique_batch_{BATCH}_ms_each": _milliseconds([each / BATCH for each in times["many"]]),
    }


def _yardstick() -> Measure:
    """One forward pass of a well-known small network at the size of the critic's window."""
    import torch

    from editcritic.plugin.yardstick import mobilenet_v3_small

    network, picture = mobilenet_v3_small(), torch.zeros(1, 3, WINDOW_PX, WINDOW_PX)

    def run() -> object:
        with torch.inference_mode():
            return network(picture)

    return run


def _over_grpc(
    name: str, critic: Critic, edit: DecodedEdit, candidate: DecodedCandidate, repeats: int
) -> tuple[dict[str, Any], float | None]:
    wire_edit = make_edit(edit.source, edit.denoise_mask)
    wire_candidate = make_candidate(candidate.image, "bench")
    task = CritiqueTask(edit, critic.prepare(edit), candidate)
    with (
        EmbeddedServer([name], ["--no-verdicts"]) as server,
        Client(server.address) as client,
        client.open_edit(wire_edit) as stream,
    ):

        def on_stream() -> None:
            stream.cancel("bench")
            stream.candidate("bench", wire_candidate)
            next(stream.events(timeout_s=60.0))

        times = _in_turns(
            repeats,
            call=lambda: client.critique(wire_edit, wire_candidate),
            call_here=lambda: critic.critique([CritiqueTask(edit, critic.prepare(edit), candidate)], _never),
            stream=on_stream,
            stream_here=lambda: critic.critique([task], _never),
        )
        memory_mib = peak_memory_mib(server.pid)
    medians = {key: statistics.median(values) for key, values in times.items()}
    return {
        "call_ms": _milliseconds(times["call"]),
        "call_in_process_ms": _milliseconds(times["call_here"]),
        "call_ratio": medians["call"] / medians["call_here"],
        "stream_ms": _milliseconds(times["stream"]),
        "stream_in_process_ms": _milliseconds(times["stream_here"]),
        "stream_ratio": medians["stream"] / medians["stream_here"],
    }, memory_mib


def _cold_start_s(name: str, edit: DecodedEdit, candidate: DecodedCandidate) -> float:
    """Seconds from starting a server process to its first critique."""
    wire_edit = make_edit(edit.source, edit.denoise_mask)
    began = time.perf_counter()
    with EmbeddedServer([name], ["--no-verdicts"]) as server, Client(server.address) as client:
        client.critique(wire_edit, candidate.image)
        return time.perf_counter() - began


def _in_turns(repeats: int, **measures: Measure) -> dict[str, list[float]]:
    """Seconds of each measure, taken in turns after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(repeats + 1):
        for name, measure in measures.items():
            began = time.perf_counter()
            measure()
            if number:
                times[name].append(time.perf_counter() - began)
    return times


def _never() -> bool:
    return False


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    return _summary([1000 * each for each in seconds])


def _summary(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "low": float(low), "high": float(high), "count": len(values)}


def _shown(figure: dict[str, float], unit: str) -> str:
    return f"{figure['median']:.3g} {unit} ({figure['low']:.3g} to {figure['high']:.3g}, n={figure['count']:.0f})"


def machine_facts() -> dict[str, Any]:
    """Processor, cores, system, Python, and versions of what is measured."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_mib(pid: int | None) -> float | None:
    """Highest resident memory of a process so far; None where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else None
