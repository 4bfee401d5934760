"""A day's worth of requests in one run: does the server's memory stay where it is?

The server runs in a process of its own on loopback. What it keeps on purpose (edits and critiques of the last while) is
given little room, so that it is full before the first tenth of the run is over, from which growth is counted.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from editcritic.plugin.benchmark import machine_facts
from editcritic.plugin.channels import Endpoint
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.plugin.process_figures import process_figures
from editcritic.plugin.soak_load import SoakCaller, Tally, make_cases
from editcritic.v1 import admin_pb2, admin_pb2_grpc
from editcritic.v1.errors import DeadlineExceeded, ServerFault

__all__ = ["Soak", "run_soak", "soak_rows", "soak_verdict"]

_EDITS, _CANDIDATES = 16, 8
_SAMPLES = 100
_LOOK_EVERY_S = 0.02
_FLAT = 1.05
_SPARE = 8
_KEPT_BYTES = 1 << 20
_EXPECTED_ENDS = {"finished", "cancelled"}


@dataclass(frozen=True)
class Soak:
    """What to run.

    Attributes:
        count: scores to receive. critic: full name of the registry. workers: of the server.
        cancelled: share of the calls and streams that are cancelled.
        swaps: times that the critic is loaded anew meanwhile, at equal distances.
        callers: that ask at the same time, each over a connection of its own. seed: of what is asked when.
        seconds: after which it ends, however many scores came; the verdict is then of what there is.
    """

    count: int = 200_000
    critic: str = "dummy"
    workers: int = 2
    cancelled: float = 0.3
    swaps: int = 20
    callers: int = 16
    seed: int = 1
    seconds: float | None = None


def run_soak(soak: Soak, progress: Callable[[str], object] = lambda _text: None) -> dict[str, Any]:
    """Run it.

    Args:
        soak: what to run.
        progress: told the state at each hundredth of the run.

    Returns:
        `course` (scores, seconds, resident_kib, descriptors and threads at each hundredth), `calls` (by how they
        ended), `seconds`, `rate`, and the `verdict` of `soak_verdict`.

    Raises:
        EditCriticError: there is no such critic, or the server could not be started, or it ended; or the time was over
            before a tenth of the scores had come.
    """
    with TemporaryDirectory() as folder:
        token = secrets.token_hex(16)
        path = Path(folder) / "token"
        path.write_text(token)
        path.chmod(0o600)
        flags = ["--no-verdicts", "--admin", f"--token-file={path}", f"--workers={soak.workers}"]
        room = [f"--max-kept-{what}-bytes={_KEPT_BYTES}" for what in ("edit", "critique")]
        with EmbeddedServer([soak.critic], [*flags, *room]) as server:
            return asyncio.run(_Soaking(soak, server, token).run(progress))


def soak_verdict(course: list[dict[str, float]], calls: dict[str, int]) -> dict[str, Any]:
    """What the course of a run says, from its tenth to its end, by the median of each tenth.

    A single look tells too little: what is in flight at that moment is some per cent of a small server.

    Returns:
        For `resident_kib`, `descriptors` and `threads` each `early`, the median of the second tenth, at the `end` that
        of the last, and the `highest` of all looks since; `growth` of the highest median of resident memory over the
        early one; `unexpected` ends of calls; and `is_flat`: memory within 5 %, no more descriptors and threads than
        a few, nothing unexpected.
    """
    told: dict[str, Any] = {}
    for name in ("resident_kib", "descriptors", "threads"):
        medians = _medians([each[name] for each in course])
        highest = max(each[name] for each in course[len(course) // 10 :])
        told[name] = {"early": medians[0], "end": medians[-1], "highest": highest}
        if name == "resident_kib":
            growth = max(medians) / medians[0] - 1
    unexpected = {end: count for end, count in calls.items() if end not in _EXPECTED_ENDS}
    few = all(told[name]["end"] <= told[name]["early"] + _SPARE for name in ("descriptors", "threads"))
    is_flat = growth <= _FLAT - 1 and few and not unexpected
    return {**told, "growth": growth, "unexpected": unexpected, "is_flat": is_flat}


def _medians(values: list[float]) -> list[float]:
    """Of the second tenth and each that follows."""
    bounds = [len(values) * tenth // 10 for tenth in range(1, 11)]
    return [statistics.median(values[begin:end]) for begin, end in itertools.pairwise(bounds)]


def soak_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """The course at every tenth as (share, scores, seconds, memory, descriptors, threads) for a table."""
    course = result["course"]
    tenths = {share: course[round(share * (len(course) - 1) / 10)] for share in range(11)}
    return [
        (
            f"{10 * share}%",
            f"{each['scores']:,}",
            f"{each['seconds']:.0f}",
            f"{each['resident_kib'] / 1024:.1f}",
            f"{each['descriptors']}",
            f"{each['threads']}",
        )
        for share, each in tenths.items()
    ]


class _Soaking:
    def __init__(self, soak: Soak, server: EmbeddedServer, token: str) -> None:
        self._soak, self._server = soak, server
        self._endpoint = Endpoint(server.address, token=token)
        self._tally, self._course = Tally(), list[dict[str, float]]()
        self._swapped, self._began = 0, time.monotonic()

    async def run(self, progress: Callable[[str], object]) -> dict[str, Any]:
        soak, load = self._soak, os.getloadavg()[0]
        cases = make_cases(_EDITS, _CANDIDATES, soak.seed)
        callers = [
            SoakCaller(self._endpoint, cases, self._tally, soak.cancelled, soak.seed + number)
            for number in range(soak.callers)
        ]
        await callers[0].learn()
        self._began = time.monotonic()
        await asyncio.gather(
            self._sample(progress), self._swap(), *(caller.visit(self._is_over) for caller in callers)
        )
        if self._server.pid is None:
            raise ServerFault(f"the server ended after {self._tally.scores:,} scores")
        if len(self._course) <= _SAMPLES // 10:
            raise DeadlineExceeded(
                f"{self._tally.scores:,} scores came in {soak.seconds} s; ask for fewer, or give more time"
            )
        calls, seconds = dict(self._tally.calls), time.monotonic() - self._began
        return {
            "soak": asdict(soak),
            "machine": machine_facts(),
            "load_average": [round(load, 1), round(os.getloadavg()[0], 1)],
            "scores": self._tally.scores,
            "seconds": seconds,
            "rate": self._tally.scores / seconds,
            "calls": calls,
            "swaps": self._swapped,
            "course": self._course,
            "verdict": soak_verdict(self._course, calls),
        }

    def _is_over(self) -> bool:
        late = self._soak.seconds is not None and time.monotonic() - self._began > self._soak.seconds
        return late or self._tally.scores >= self._soak.count or self._server.pid is None

    async def _reached(self, scores: float) -> bool:
        """Wait for so many scores; False when the run ends before."""
        while self._tally.scores < scores:
            if self._is_over():
                return False
            await asyncio.sleep(_LOOK_EVERY_S)
        return True

    async def _sample(self, progress: Callable[[str], object]) -> None:
        for number in range(_SAMPLES + 1):
            if not await self._reached(self._soak.count * number / _SAMPLES):
                return
            figures = process_figures(self._server.pid)
            seconds = time.monotonic() - self._began
            self._course.append({"scores": self._tally.scores, "seconds": seconds, **figures})
            progress(f"{self._tally.scores:,} scores, {figures.get('resident_kib', 0) / 1024:.1f} MiB")

    async def _swap(self) -> None:
        async with self._endpoint.aio_channel() as channel:
            admin: Any = admin_pb2_grpc.AdminServiceStub(channel)
            for number in range(1, self._soak.swaps + 1):
                if not await self._reached(self._soak.count * number / (self._soak.swaps + 1)):
                    return
                request = admin_pb2.LoadCriticRequest(spec=self._soak.critic)
                await admin.LoadCritic(request, metadata=self._endpoint.metadata())
                self._swapped += 1
