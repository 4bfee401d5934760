"""Figures of the loop's benchmark: means with bootstrap intervals, and what previews told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.preview_table import rank_correlation
from editcritic.refine.race_replay import Record

__all__ = ["ARMS", "Row", "figure_rows", "summarise"]

ARMS = ("plain", "best_of_n", "halving", "drafted_best_of_n", "race", "wide_race", "loop")
"""One seed; the best of N by the critic; the same by halving; the best of N of which all but the first begin as drafts;
the same by the race; a race of twice as many, and the loop that goes on from it, with at most as many steps as
best-of-N."""
_JUDGES = ("followed", "score", "held_out", "natural")
_RESAMPLES = 2000

Interval = Callable[[Any], dict[str, float]]


@dataclass
class Row:
    """One edit.

    Attributes:
        number: its place. record: its candidates. drafted: the same seeds, all but the first begun as drafts.
        arms: by arm, followed (0 or 1, by the oracle), score (of the critic that steers), held_out (of the other),
            natural (by natural scene statistics, which has no part in anything; NaN for masks too small for them),
            evaluations.
        stated, is_lost: of the race, as in `race_replay.Outcome`. seconds: all, critic, engine.
    """

    number: int
    record: Record
    drafted: Record
    stated: float
    is_lost: bool
    arms: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def summarise(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """Everything that the rows say, as plain values. seed: of the bootstrap."""
    picks = np.random.default_rng(seed).integers(0, len(rows), (_RESAMPLES, len(rows)))

    def interval(values: Any) -> dict[str, float]:
        known = np.asarray(values, float)
        means = np.nanmean(known[picks], axis=1)
        low, high = np.nanquantile(means, [0.025, 0.975])
        return {"mean": float(np.nanmean(known)), "low": float(low), "high": float(high)}

    seconds = {name: sum(row.seconds[name] for row in rows) for name in ("all", "critic", "engine")}
    return {
        "arms": {arm: _arm(rows, arm, interval) for arm in ARMS},
        "share_of_best_of_n": {
            arm: _shares(rows, arm, picks) for arm in ARMS if arm not in ("plain", "best_of_n")
        },
        **{
            f"{arm}_over_best_of_n": {
                name: interval(_values(rows, arm, name) - _values(rows, "best_of_n", name))
                for name in _JUDGES
            }
            for arm in ("drafted_best_of_n", "race", "wide_race", "loop")
        },
        "preview_correlation": _correlations(rows, interval),
        "draft_correlation": _mean_correlation(
            [(row.drafted.drafts, row.drafted.finals) for row in rows], interval
        ),
        "race_risk": {
            "stated": float(np.mean([row.stated for row in rows])),
            "audited": interval([float(row.is_lost) for row in rows]),
        },
        "worse_than_plain_by_held_out": interval(
            [float(row.arms["loop"]["held_out"] < row.arms["plain"]["held_out"] - 1e-6) for row in rows]
        ),
        "critic_share_of_time": seconds["critic"] / seconds["all"],
        "loop_share_of_time": max(0.0, 1 - (seconds["critic"] + seconds["engine"]) / seconds["all"]),
        "rows": [row.arms for row in rows],
        "records": [
            {
                "previews": [dict(each) for each in row.record.previews],
                "finals": list(row.record.finals),
                "drafts": list(row.drafted.drafts),
                "drafted_finals": list(row.drafted.finals),
                "rest": row.drafted.rest,
            }
            for row in rows
        ],
    }


def figure_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What `summarise` tells as (name, "mean [low, high]")."""
    rows: list[tuple[str, str]] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict) and set(value) == {"mean", "low", "high"}:
            rows.append((name, "{mean:.3g} [{low:.3g}, {high:.3g}]".format(**value)))
        elif isinstance(value, dict):
            for key, each in value.items():
                add(f"{name}: {key.replace('_', ' ')}" if name else key.replace("_", " "), each)
        elif value is not None and not isinstance(value, list):
            rows.append((name, f"{value:.4g}"))

    add("", result)
    return rows


def _values(rows: Sequence[Row], arm: str, name: str) -> NDArray[np.float64]:
    return np.array([row.arms[arm][name] for row in rows])


def _arm(rows: Sequence[Row], arm: str, interval: Interval) -> dict[str, Any]:
    told = {name: interval(_values(rows, arm, name)) for name in (*_JUDGES, "evaluations")}
    if arm != "plain":
        for name in _JUDGES:
            told[f"{name}_gain"] = interval(_values(rows, arm, name) - _values(rows, "plain", name))
    return told


def _shares(rows: Sequence[Row], arm: str, picks: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Gain and cost as shares of best-of-N's; ratios of means, so that edits without a gain do not count double."""
    shares = {}
    for name, over in (("score", "plain"), ("evaluations", "")):
        base = _values(rows, over, name) if over else np.zeros(len(rows))
        own, whole = _values(rows, arm, name) - base, _values(rows, "best_of_n", name) - base
        sums = own[picks].sum(axis=1) / np.maximum(whole[picks].sum(axis=1), 1e-9)
        low, high = np.quantile(sums, [0.025, 0.975])
        mean = own.sum() / max(float(whole.sum()), 1e-9)
        shares["gain" if over else "cost"] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return shares


def _correlations(rows: Sequence[Row], interval: Interval) -> dict[str, dict[str, float]]:
    """Mean rank correlation within an edit, by share of the steps."""
    groups = [row.record.group() for row in rows]
    shares = sorted({share for group in groups for share in group.previews})
    found = {}
    for share in shares:
        told = _mean_correlation(
            [(group.previews.get(share, ()), group.finals) for group in groups], interval
        )
        if told is not None:
            found[f"{share:g}"] = told
    return found


def _mean_correlation(pairs: Sequence[tuple[Any, Any]], interval: Interval) -> dict[str, float] | None:
    each = [rank_correlation(seen, finals) if len(seen) else None for seen, finals in pairs]
    if all(value is None for value in each):
        return None
    return interval([np.nan if value is None else value for value in each])
