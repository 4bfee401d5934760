"""Our server beside others that serve the same critic: requests a second and latency, in a closed loop.

Every server is a process of its own on loopback with the same critic, weights and number of workers. Bodies are made
beforehand, each caller asks again as soon as it has its answer, and every answer is compared to the critic's own scores
in this process: a server that answers wrong is not measured. Ours is measured first and last, so that drift shows.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from editcritic.plugin.benchmark import example_edit, machine_facts
from editcritic.plugin.client import make_edit
from editcritic.plugin.contenders import PEERS, Ask, Contender, Refused, our_call, our_stream, peer
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.plugin.load import Load, latency_figures
from editcritic.plugin.peers.judge import scores_of
from editcritic.plugin.serve_benchmark import crop_of
from editcritic.server.critics import critic_name, load_critic
from editcritic.server.critics.base import CritiqueTask
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, ServerUnavailable

__all__ = [
    "PeerBench",
    "Tally",
    "ask_all",
    "behaviour",
    "behaviour_rows",
    "is_right",
    "measure_peers",
    "peer_rows",
]

_TOLERANCE = 1e-3
_PATIENCE_S = 120.0
_NEIGHBOURS = 3
_GIVEN_UP = 8
_ALONE_COUNT = 5
_SOON = 0.2


@dataclass(frozen=True)
class PeerBench:
    """What to measure.

    Attributes:
        against: of `contenders.PEERS`.
        critic: full name of the registry. workers: of every server.
        requests: at each concurrency. concurrencies: callers at the same time.
    """

    against: tuple[str, ...] = tuple(PEERS)
    critic: str = "network"
    workers: int = 1
    requests: int = 100
    concurrencies: tuple[int, ...] = (1, 8, 32)


@dataclass
class Tally:
    """What became of requests: seconds that each right answer took, the number of wrong ones, and refusals by kind."""

    latencies_s: list[float] = field(default_factory=list)
    wrong: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Requests a second and latencies in milliseconds; none of these unless every answer was right."""
        told: dict[str, Any] = {"wrong": self.wrong, "refused": dict(self.refused)}
        if self.wrong or self.refused or not self.latencies_s:
            return told
        return (
            told
            | {"requests_per_s": len(self.latencies_s) / self.seconds}
            | latency_figures(self.latencies_s)
        )


async def ask_all(asks: Sequence[Ask], total: int, expected: dict[str, float]) -> Tally:
    """Ask so many times over all callers, each again as soon as it was answered.

    Args:
        asks: one for each caller.
        total: requests over all of them.
        expected: the right scores.
    """
    tally, left = Tally(), iter(range(total))

    async def caller(ask: Ask) -> None:
        for _ in left:
            began = time.monotonic()
            try:
                scores = await asyncio.wait_for(ask(), _PATIENCE_S)
            except Refused as error:
                tally.refused[str(error)] += 1
            except asyncio.TimeoutError:
                tally.refused[f"no answer in {_PATIENCE_S:.0f} s"] += 1
            else:
                if is_right(scores, expected):
                    tally.latencies_s.append(time.monotonic() - began)
                else:
                    tally.wrong += 1

    began = time.monotonic()
    await asyncio.gather(*(caller(ask) for ask in asks))
    tally.seconds = time.monotonic() - began
    return tally


def is_right(scores: dict[str, float], expected: dict[str, float]) -> bool:
    """Whether the same scores are there, each within a thousandth of a point of 100."""
    return scores.keys() == expected.keys() and all(
        abs(scores[name] - value) <= _TOLERANCE for name, value in expected.items()
    )


async def behaviour(contender: Contender, expected: dict[str, float]) -> dict[str, Any]:
    """What it does with a picture that is cut in half, and with requests whose callers have left.

    Returns:
        `bad_picture`: what is said to it; `neighbours`: how many of three good ones, sent with it, were answered right;
        `after_leavers`: how long the next request takes once eight callers gave up, over its time alone: 1 means
        that nothing was done for them.
    """
    async with contender.connect(_NEIGHBOURS, False) as asks, contender.connect(1, True) as (bad,):
        await ask_all(asks, _NEIGHBOURS, expected)
        said, *tallies = await asyncio.gather(
            ask_all([bad], 1, expected), *(ask_all([ask], 1, expected) for ask in asks)
        )
    told = {
        "bad_picture": next(iter(said.refused), "scores, as if it were whole"),
        "neighbours": sum(len(each.latencies_s) for each in tallies),
    }
    return told | {"after_leavers": await _after_leavers(contender, expected)}


async def _after_leavers(contender: Contender, expected: dict[str, float]) -> float | None:
    async with contender.connect(1, False) as (ask,):
        alone_s = (await ask_all([ask], _ALONE_COUNT, expected)).latencies_s
        if not alone_s:
            return None
        alone = statistics.median(alone_s)
        async with contender.connect(_GIVEN_UP, False) as leavers:
            await asyncio.gather(*(_leave(leaver, _SOON * alone) for leaver in leavers))
        after_s = (await ask_all([ask], 1, expected)).latencies_s
    return after_s[0] / alone if after_s else None


async def _leave(ask: Ask, after_s: float) -> None:
    with suppress(asyncio.TimeoutError, Refused):
        await asyncio.wait_for(ask(), after_s)


def measure_peers(bench: PeerBench, progress: Callable[[str], object] = lambda _text: None) -> dict[str, Any]:
    """Measure ours, each peer, and ours again.

    Args:
        bench: what to measure.
        progress: told what is being measured.

    Returns:
        `runs` in their order: name, `byte_count` of a request, `at` each concurrency its figures (`Tally.figures`); of
        the first of each name also its `behaviour`; `skipped`, with the reason; and the machine with its load.

    Raises:
        EditCriticError: there is no such critic or peer, or our server could not be started.
    """
    unknown = [name for name in bench.against if name not in PEERS]
    if unknown:
        raise InvalidInput(f"there is no peer {unknown[0][:64]!r}; known are {', '.join(PEERS)}")
    before = os.getloadavg()[0]
    with _ours(bench) as (ours, expected):
        runs, skipped = _all_runs(bench, ours, expected, progress)
    return {
        "critic": bench.critic,
        "workers": bench.workers,
        "requests": bench.requests,
        "concurrencies": list(bench.concurrencies),
        "machine": machine_facts(),
        "load_average": [round(before, 1), round(os.getloadavg()[0], 1)],
        "runs": runs,
        "skipped": skipped,
    }


@contextmanager
def _ours(bench: PeerBench) -> Iterator[tuple[list[Contender], dict[str, float]]]:
    """Our two ways to be asked, and the right scores."""
    edit, candidate = example_edit()
    critic, options = load_critic(bench.critic), pb.CritiqueOptions(critic=critic_name(bench.critic))
    outcome = critic.critique([CritiqueTask(edit, critic.prepare(edit), candidate)], lambda: False)[0]
    if not isinstance(outcome, pb.Critique):
        raise outcome
    load = Load(make_edit(edit.source, edit.denoise_mask), crop_of(candidate), options)
    with EmbeddedServer([bench.critic], ["--no-verdicts", f"--workers={bench.workers}"]) as server:
        ways = [our_stream(server.address, load), our_call(server.address, edit, candidate, options)]
        yield ways, scores_of(outcome)


def _all_runs(
    bench: PeerBench, ours: list[Contender], expected: dict[str, float], progress: Callable[[str], object]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    edit, candidate = example_edit()

    def run(contender: Contender, *, is_first: bool = True) -> dict[str, Any]:
        progress(contender.name)
        return asyncio.run(_run(bench, contender, expected, is_first))

    runs, skipped = [run(each) for each in ours], {}
    for name in bench.against:
        if PEERS[name].missing:
            skipped[name] = PEERS[name].missing
            continue
        progress(f"starting {PEERS[name].title}")
        try:
            with peer(PEERS[name], bench.critic, bench.workers, edit, candidate) as contender:
                runs.append(run(contender))
        except ServerUnavailable as error:
            skipped[name] = error.message
    return runs + [run(each, is_first=False) for each in ours], skipped


async def _run(
    bench: PeerBench, contender: Contender, expected: dict[str, float], is_first: bool
) -> dict[str, Any]:
    told: dict[str, Any] = {"name": contender.name, "byte_count": contender.byte_count, "at": {}}
    for count in bench.concurrencies:
        async with contender.connect(count, False) as asks:
            await ask_all(asks, count, expected)  # warm
            told["at"][str(count)] = (await ask_all(asks, bench.requests, expected)).figures()
    return told | ({"behaviour": await behaviour(contender, expected)} if is_first else {})


def peer_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """For a table: name, size of a request, requests/s and p99 at each concurrency."""
    rows = []
    for run in result["runs"]:
        cells = [_cell(run["at"][str(count)]) for count in result["concurrencies"]]
        rows.append((run["name"], f"{run['byte_count'] / 2**20:.2f} MiB", *cells))
    return rows


def behaviour_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """For a table: name, what half a picture comes to, how many of its neighbours were answered, what leavers cost."""
    rows: list[tuple[str, ...]] = []
    for run in result["runs"]:
        if told := run.get("behaviour"):
            after = "no answer" if told["after_leavers"] is None else f"{told['after_leavers']:.2g}x"
            rows.append((run["name"], told["bad_picture"], f"{told['neighbours']} of {_NEIGHBOURS}", after))
    return rows


def _cell(figures: dict[str, Any]) -> str:
    if "requests_per_s" not in figures:
        refused = ", ".join(f"{count} x {name}" for name, count in figures["refused"].items())
        return f"not measured: {figures['wrong']} wrong {refused}".strip()
    return f"{figures['requests_per_s']:.1f}/s, {figures['p99']:.0f} ms"
