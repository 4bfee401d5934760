"""What a wanted quality, quality guidance and a critic's gradient are worth, on edits with fixed seeds.

Each edit is answered once by every arm, from the same seed. The network critic judges, which taught the adapter and
steers by its gradient; so do two who have no part in it: the evidence critic, and the oracle of the rendered world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from editcritic.plugin.local_scores import local_scores, value_of
from editcritic.plugin.oracle.cases import Case, asked_edits
from editcritic.plugin.oracle.sight import Oracle
from editcritic.plugin.steering import steerable
from editcritic.refine.engine import Engine, load_engine
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.tabletop.photos import read_photos
from editcritic.server.critics import load_critic

__all__ = ["ARMS", "JUDGES", "QualityBench", "figures", "measure_quality", "rows_of", "summarise"]

ARMS: Mapping[str, QualityOptions] = MappingProxyType(
    {
        "base": QualityOptions(),
        "target 90": QualityOptions(90),
        "target 20": QualityOptions(20),
        "guidance 1": QualityOptions(90, 1.0),
        "guidance 3": QualityOptions(90, 3.0),
        "critic 1": QualityOptions(critic_guidance=1.0),
    }
)
"""By name: what is asked of the engine. The guidances lead to 90, away from 20."""
JUDGES = ("network", "network_visual", "evidence", "followed")
"""Overall and visual quality by the network, overall by evidence, and 1 where the oracle sees what was asked."""
_TOGETHER = 4
_RESAMPLES = 2000


@dataclass(frozen=True)
class QualityBench:
    """What to measure. images: photographs that nothing was trained on. count: edits. seed: names edits and seeds.
    steps: of each answer; None for the engine's own."""

    images: Path
    count: int = 100
    seed: int = 905
    engine: str = "tabletop"
    steps: int | None = None


Row = dict[str, dict[str, float]]
"""One edit: by arm, by judge."""


def measure_quality(
    bench: QualityBench, progress: Callable[[int, int], object] = lambda _done, _all: None
) -> dict[str, Any]:
    """Run it. progress: told (edits done, edits in all). Returns what `summarise` says."""
    rows: list[Row] = []
    for row in rows_of(bench):
        rows.append(row)
        progress(len(rows), bench.count)
    return summarise(rows, bench.seed)


def rows_of(bench: QualityBench) -> Iterator[Row]:
    """The edits, one after the other. Raises: InvalidInput for an engine that has none of it."""
    engine = steerable(load_engine(bench.engine))
    critics = {name: load_critic(name) for name in ("network", "evidence")}
    cases, oracle = asked_edits(read_photos(bench.images), bench.count, bench.seed), Oracle()
    for first in range(0, bench.count, _TOGETHER):
        party = cases[first : first + _TOGETHER]
        answers = {arm: _answers(engine, party, bench, first, wish) for arm, wish in ARMS.items()}
        for place, case in enumerate(party):
            yield {arm: _judged(critics, oracle, case, made[place]) for arm, made in answers.items()}


def _answers(
    engine: Engine, party: Sequence[Case], bench: QualityBench, first: int, wish: QualityOptions
) -> list[Any]:
    made = [
        engine.candidate(
            case.source, case.mask, case.prompt, seed=1000 * (first + place), steps=bench.steps, quality=wish
        )
        for place, case in enumerate(party)
    ]
    engine.advance(made, 1.0)
    return made


def _judged(critics: dict[str, Any], oracle: Oracle, case: Case, made: Any) -> dict[str, float]:
    masks, picture = (made.denoise_mask, made.blend_mask), made.result()
    scores = {
        name: local_scores(each, case.source, masks, picture, case.prompt) for name, each in critics.items()
    }
    return {
        "network": value_of(scores["network"].overall),
        "network_visual": value_of(scores["network"].visual_quality),
        "evidence": value_of(scores["evidence"].overall),
        "followed": float(oracle.look(picture, case.mask) == case.wanted),
    }


def summarise(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Means of every arm by every judge, and their gains over the base with 95 % bootstrap intervals over edits."""

    def interval(values: Any) -> dict[str, float]:
        known = values[np.isfinite(values)]  # where a critic abstains, the edit does not count
        picks = np.random.default_rng(seed).integers(0, len(known), (_RESAMPLES, len(known)))
        low, high = np.quantile(known[picks].mean(axis=1), [0.025, 0.975])
        return {"mean": float(known.mean()), "low": float(low), "high": float(high)}

    def told(arm: str, judge: str) -> Any:
        return np.array([row[arm][judge] for row in rows])

    means = {arm: {judge: interval(told(arm, judge)) for judge in JUDGES} for arm in ARMS}
    gains = {
        arm: {judge: interval(told(arm, judge) - told("base", judge)) for judge in JUDGES}
        for arm in ARMS
        if arm != "base"
    }
    return {"edits": len(rows), "means": means, "gains": gains, "rows": list(rows)}


def figures(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What `summarise` tells as (name, "mean [low, high]")."""
    rows = [("edits", str(result["edits"]))]
    for part in ("means", "gains"):
        for arm, judges in result[part].items():
            for judge, value in judges.items():
                name = f"{arm}: {judge.replace('_', ' ')}{' gain' if part == 'gains' else ''}"
                rows.append((name, "{mean:.3g} [{low:.3g}, {high:.3g}]".format(**value)))
    return rows
