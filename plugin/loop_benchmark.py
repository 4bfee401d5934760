"""Best-of-N and the loop against one plain sample, on edits of the rendered world with fixed seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from editcritic.plugin.editing import make_refine_request
from editcritic.plugin.oracle.cases import Case, asked_edits, oracle_accuracy
from editcritic.plugin.oracle.sight import Oracle
from editcritic.refine.critic import Critic, EditJudge
from editcritic.refine.engine import Engine
from editcritic.refine.loop import Refinement
from editcritic.refine.request import completed_request
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import decode_image

__all__ = ["ARMS", "measure_loop"]

ARMS = ("plain", "best_of_n", "loop")
"""One seed; the best of N by the critic; the best of N, mended."""

_RESAMPLES = 2000
Row = dict[str, float]


def measure_loop(
    engine: Engine,
    critic: Critic,
    photos: Sequence[Image.Image],
    *,
    count: int,
    candidates: int,
    rounds: int,
    seed: int,
    oracle_count: int = 1000,
    progress: Callable[[str], object] = lambda _text: None,
) -> dict[str, Any]:
    """Run the loop on `count` edits; what one seed and best-of-N give is read from the same runs.

    Returns: for each arm of `ARMS` and each of followed (share, by the oracle), score (critic, overall) and evaluations
    a mean with a bootstrap interval of 95 %; the differences to plain likewise; and where the time went, as shares.
    """
    oracle, rows, spent = Oracle(), [], {"critic": 0.0, "all": 0.0}
    accuracy = oracle_accuracy(oracle, photos, oracle_count, seed + 1)
    for number, case in enumerate(asked_edits(photos, count, seed)):
        progress(f"edit {number + 1} of {count}")
        judge = _Timed(critic)
        request = make_refine_request(
            case.source, case.mask, case.prompt, candidates=candidates, seed=1000 * number, rounds=rounds
        )
        began = time.monotonic()
        events = list(Refinement(engine, judge, completed_request(request)).run())
        spent["all"] += time.monotonic() - began - judge.opening_s
        spent["critic"] += judge.judging_s
        rows.append(_row(events, case, oracle, candidates))
    return {
        "edits": count,
        "candidates": candidates,
        "oracle_on_true_renderings": accuracy,
        "arms": _summary(rows, seed),
        "critic_share_of_time": spent["critic"] / spent["all"],
        "rows": rows,
    }


class _Timed:
    """A critic whose own time is counted; starting its server is not part of an edit."""

    def __init__(self, critic: Critic) -> None:
        self._critic, self.opening_s, self.judging_s = critic, 0.0, 0.0

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[_TimedJudge]:
        began = time.monotonic()
        with self._critic.open(edit) as judge:
            self.opening_s += time.monotonic() - began
            yield _TimedJudge(judge, self)
            began = time.monotonic()
        self.opening_s += time.monotonic() - began


class _TimedJudge:
    def __init__(self, judge: EditJudge, owner: _Timed) -> None:
        self._judge, self._owner, self.identity = judge, owner, judge.identity

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        began = time.monotonic()
        try:
            return self._judge.critique(candidate, progress)
        finally:
            self._owner.judging_s += time.monotonic() - began


def _row(events: Sequence[refine_pb2.RefineResponse], case: Case, oracle: Oracle, candidates: int) -> Row:
    finished = {
        e.candidate_finished.candidate_id: e.candidate_finished
        for e in events
        if e.HasField("candidate_finished")
    }
    scores = {
        e.critique.candidate_id: e.critique.scores.overall.value
        for e in events
        if e.HasField("critique") and not e.critique.HasField("progress")
    }
    firsts = list(finished)[:candidates]
    selected = next(
        e.decision.candidate_id for e in events if e.decision.kind == refine_pb2.DECISION_KIND_SELECT
    )
    result = events[-1].result
    chosen = {"plain": firsts[0], "best_of_n": selected, "loop": result.candidate_id}
    costs = {
        "plain": finished[firsts[0]].evaluation_count,
        "best_of_n": sum(finished[name].evaluation_count for name in firsts),
        "loop": result.evaluation_count,
    }
    row: Row = {}
    for arm, name in chosen.items():
        seen = oracle.look(decode_image(finished[name].image), case.mask)
        row |= {
            f"{arm}.followed": float(seen == case.wanted),
            f"{arm}.score": scores[name],
            f"{arm}.evaluations": float(costs[arm]),
        }
    return row


def _summary(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(rows), (_RESAMPLES, len(rows)))

    def interval(values: Any) -> dict[str, float]:
        means = np.asarray(values)[picks].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}

    table: dict[str, Any] = {}
    for arm in ARMS:
        table[arm] = {}
        for name in ("followed", "score", "evaluations"):
            values = np.array([row[f"{arm}.{name}"] for row in rows])
            plain = np.array([row[f"plain.{name}"] for row in rows])
            table[arm][name] = interval(values)
            if arm != "plain" and name != "evaluations":
                table[arm][f"{name}_gain"] = interval(values - plain)
    return table
