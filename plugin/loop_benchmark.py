"""What choosing, racing and mending are worth, on edits of the rendered world with fixed seeds.

For each edit all N candidates are finished once, with previews, which gives the plain answer, best-of-N, and, by
replay, every race; then the loop runs on its own with as many denoising steps as best-of-N took. The critic that steers
judges, and so do three who have no part in the search: another critic, which may have one in acceptance, natural scene
statistics, and the oracle of the rendered world.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.client import Client
from editcritic.plugin.editing import make_refine_request
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.plugin.judging import ServedCritic
from editcritic.plugin.loop_figures import Row, summarise
from editcritic.plugin.loop_runs import ToldRun
from editcritic.plugin.natural_statistics.judge import NaturalStatistics
from editcritic.plugin.oracle.cases import Case, asked_edits, oracle_accuracy
from editcritic.plugin.oracle.sight import Oracle
from editcritic.plugin.recorded import RecordedEngine
from editcritic.plugin.timed import TimedCritic, TimedEngine
from editcritic.refine.critic import Critic
from editcritic.refine.engine import Engine, load_engine
from editcritic.refine.known_previews import known_table, pairing
from editcritic.refine.loop import Refinement
from editcritic.refine.race import RaceOptions
from editcritic.refine.race_replay import replay
from editcritic.refine.request import completed_request
from editcritic.refine.tabletop.photos import read_photos
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_image

__all__ = ["LoopBench", "LoopMeasure", "measure_loop"]


@dataclass(frozen=True)
class LoopBench:
    """What to measure.

    Attributes:
        images: folder of photographs that nothing was trained on.
        count: edits. candidates: N; the loop may start twice as many. rounds: repairs of each edit.
        seed: names edits and seeds. price: of the race, as in `RaceOptions`.
        engine: name. critic: that steers. held_out: that has no part in it. accepts: whether the held-out critic has to
            agree to what the loop puts in the place of the first seed's answer.
        oracle_count: true renderings on which the oracle itself is measured.
        keep: folder in which candidates are kept, so that measuring again takes no denoising; None keeps nothing.
    """

    images: Path
    count: int = 200
    candidates: int = 8
    rounds: int = 2
    seed: int = 901
    price: float = RaceOptions().price
    engine: str = "tabletop"
    critic: str = "network"
    held_out: str = "evidence"
    accepts: bool = True
    oracle_count: int = 1000
    keep: Path | None = None


def measure_loop(
    bench: LoopBench, workers: int = 1, progress: Callable[[int, int], object] = lambda _done, _all: None
) -> dict[str, Any]:
    """Run it, in processes of their own.

    Args:
        workers: processes, of one thread each when there are several.
        progress: told (edits done, edits in all) after each.

    Returns:
        What `loop_figures.summarise` tells, and the oracle's accuracy on true renderings.
    """
    rows: list[Row] = []
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_worker, (bench, workers > 1)) as pool:
        for row in pool.map(_measure_edit, range(bench.count)):
            rows.append(row)
            progress(len(rows), bench.count)
    accuracy = oracle_accuracy(Oracle(), read_photos(bench.images), bench.oracle_count, bench.seed + 1)
    return summarise(rows, bench.seed) | {
        "edits": bench.count,
        "candidates": bench.candidates,
        "oracle_on_true_renderings": accuracy,
    }


@dataclass(frozen=True, eq=False)
class _Worker:
    """What a process of the pool keeps open; the critics' server ends when it does."""

    server: EmbeddedServer
    measuring: LoopMeasure
    cases: list[Case]


_workers: list[_Worker] = []


def _open_worker(bench: LoopBench, is_one_of_several: bool) -> None:
    """Open everything once in a process of the pool."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if is_one_of_several:
        import torch

        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"  # for the critics' server
    server = EmbeddedServer([bench.critic, bench.held_out], ["--no-verdicts"])
    server.start()
    client = Client(server.address)
    critics = [ServedCritic(client, name, heat_map=False) for name in (bench.critic, bench.held_out)]
    engine = load_engine(bench.engine)
    kept = engine if bench.keep is None else RecordedEngine(engine, bench.keep)
    measuring = LoopMeasure(bench, kept, *critics)
    _workers.append(
        _Worker(server, measuring, asked_edits(read_photos(bench.images), bench.count, bench.seed))
    )


def _end_with_parent() -> None:
    """A pool whose owner was killed would wait for work for ever."""
    owner = parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


def _measure_edit(number: int) -> Row:
    (worker,) = _workers
    return worker.measuring.measure(number, worker.cases[number])


class LoopMeasure:
    """Measures edit by edit.

    Args:
        bench: what to measure. engine: produces. critic: steers and accepts. held_out: judges in the end.
    """

    def __init__(self, bench: LoopBench, engine: Engine, critic: Critic, held_out: Critic) -> None:
        self._bench, self._engine, self._oracle = bench, engine, Oracle()
        self._critic, self._held_out, self._natural = critic, held_out, NaturalStatistics()

    def measure(self, number: int, case: Case) -> Row:
        """One edit, by every arm."""
        bench = self._bench
        ask = partial(make_refine_request, case.source, case.mask, case.prompt, seed=1000 * number)
        whole = self._run(ask(candidates=bench.candidates, rounds=0, race="plain", draft=False), None)
        drafted = self._run(ask(candidates=bench.candidates, rounds=0, race="plain", draft=True), None)
        loop = self._run(
            ask(
                candidates=2 * bench.candidates,
                rounds=bench.rounds,
                max_steps=bench.candidates * self._engine.capabilities.default_steps,
                target=100.0,
                price=bench.price,
            ),
            self._held_out if bench.accepts else None,
        )
        return self._row(number, case, whole, drafted, loop)

    def _run(self, request: refine_pb2.RefineRequest, acceptance: Critic | None) -> ToldRun:
        critic, engine, full = (
            TimedCritic(self._critic),
            TimedEngine(self._engine),
            completed_request(request),
        )
        full.race.audit = False
        began, recorded = time.perf_counter(), self._recorded_seconds()
        other = TimedCritic(acceptance) if acceptance is not None else None
        events = list(Refinement(engine, critic, full, acceptance=other).run())
        watches = [critic] if other is None else [critic, other]
        seconds = time.perf_counter() - began - sum(each.opening.seconds for each in watches)
        judging = sum(each.judging.seconds for each in watches)
        producing = self._recorded_seconds() - recorded or engine.watch.seconds
        seconds += producing - engine.watch.seconds
        return ToldRun(full, events, {"all": seconds, "critic": judging, "engine": producing})

    def _recorded_seconds(self) -> float:
        """What the engine took until now for candidates that are kept, whenever they were made."""
        return self._engine.seconds if isinstance(self._engine, RecordedEngine) else 0.0

    def _row(self, number: int, case: Case, whole: ToldRun, drafted: ToldRun, loop: ToldRun) -> Row:
        record, begun = whole.record(), drafted.record()
        started = whole.events[0].started
        table = known_table(pairing(started.engine, started.search_critic), None)
        raced = replay(begun, table, RaceOptions(price=self._bench.price), 1000 * number)
        halved = replay(record, table, RaceOptions("halving"), 1000 * number)
        first, best = record.names[0], record.best()
        one = whole.cost(first)
        chosen = {
            "plain": (whole, first, one),
            "best_of_n": (whole, best, one * len(record.names)),
            "halving": (whole, halved.best, halved.cost * one),
            "drafted_best_of_n": (drafted, begun.best(), float(drafted.result.evaluation_count)),
            "race": (drafted, raced.best, raced.cost * one),
            "wide_race": (loop, *loop.selected()),
            "loop": (loop, loop.result.candidate_id, float(loop.result.evaluation_count)),
        }
        row = Row(number, record=record, drafted=begun, stated=raced.stated, is_lost=raced.is_lost)
        with self._held_out.open(whole.request.edit) as judge:
            for arm, (told, name, cost) in chosen.items():
                picture = told.picture(name)
                shown = decode_image(picture)
                seen = self._oracle.look(shown, case.mask)
                other = judge.critique(pb.Candidate(candidate_id=f"{arm}:{name}", image=picture))
                row.arms[arm] = {
                    "followed": float(seen == case.wanted),
                    "score": told.scores[name],
                    "held_out": other.scores.overall.value,
                    "natural": self._naturalness(case, shown),
                    "evaluations": float(cost),
                }
        row.seconds = {
            name: sum(told.seconds[name] for told in (whole, drafted, loop)) for name in whole.seconds
        }
        return row

    def _naturalness(self, case: Case, picture: NDArray[np.uint8]) -> float:
        try:
            return self._natural.judge(case.source, picture, case.mask)
        except InvalidInput:
            return math.nan
