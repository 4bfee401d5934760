"""The race: which candidate goes on, which is dropped half-way, and when it is over. Decides, and runs nothing.

::

    race = Race(["seed-1", "seed-2"], table, RaceOptions())
    while (move := race.next()) is not None:
        ...                             # carry the move out, then tell race.seen(...), finished(...) or failed(...)

A candidate's final score has a posterior from its newest preview (`preview_table`). The first candidate is always
finished: it is what the user would have got, and what the others have to beat. Of the others the one runs on that
promises the most gain for its remaining steps (expected improvement, Mockus 1975; stopping by a price as in Weitzman
1979), and whoever promises less than the price is dropped. Successive halving is Karnin et al. 2013's, with fixed
rungs; plain best-of-N finishes everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.preview_table import PRIOR, PreviewTable, from_log_odds, to_log_odds

__all__ = ["HALVING", "LEAST_CORRELATION", "Advance", "Drop", "Method", "Race", "RaceOptions"]

Method = Literal["margin", "halving", "plain"]

HALVING = ((0.2, 0.5), (0.4, 0.25), (0.6, 0.125))
"""Successive halving: share of the steps, and the share of the candidates that goes on from there."""
LEAST_CORRELATION = 0.4
"""Rank correlation of previews and finals within an edit, under which a rung says nothing to drop a candidate on."""

_VETO_FROM = 0.4
_DRAWS = 4000
_LEAST_LEFT = 0.02  # share of the steps: a last preview of few steps leaves nothing but the decode


@dataclass(frozen=True)
class RaceOptions:
    """How a race is run.

    Attributes:
        method: "margin" drops whoever promises too little; as yardsticks, "halving" drops by rank alone and "plain"
            drops nobody.
        price: points of score that a candidate must be expected to gain for the steps of a whole one, above 0.
        rungs: shares of the steps, rising, in (0, 1), at which previews are judged.
        wave: how many candidates start together, for engines that denoise them in one pass.
        is_audit: decide as always, but drop nobody, to learn what dropping would have cost.
    """

    method: Method = "margin"
    price: float = 1.0
    rungs: tuple[float, ...] = (0.2, 0.3, 0.4, 0.6)
    wave: int = 4
    is_audit: bool = False


@dataclass(frozen=True)
class Advance:
    """Run candidates to a share of their steps and judge their previews; at 1 finish them and judge the results."""

    names: tuple[str, ...]
    fraction: float


@dataclass(frozen=True)
class Drop:
    """Give a candidate up. probability: that it would have ended as the best, in [0, 1]; None for a veto."""

    name: str
    probability: float | None
    reason: str


Move = Advance | Drop


@dataclass
class _Standing:
    """Where a candidate stands. score: of the newest preview that got one, at `scored_at` of the steps."""

    fraction: float = 0.0
    score: float = 0.0
    scored_at: float = 0.0
    previews: dict[float, float] = field(default_factory=dict)
    is_over: bool = False
    final: float | None = None
    veto: str = ""
    is_audited: bool = False  # would have been dropped, but goes on


class Race:
    """The state of one race.

    Args:
        names: candidates in the order of their start; the first is the plain one.
        table: how well previews tell. options: how to run it. seed: of the draws behind probabilities.

    Attributes:
        would_drop: probability of ending as the best, by name, of everybody who was dropped for promising too little
            or, in an audit, would have been.
    """

    def __init__(
        self,
        names: Sequence[str],
        table: PreviewTable = PRIOR,
        options: RaceOptions | None = None,
        seed: int = 0,
    ) -> None:
        self._table, self._options = table, options or RaceOptions()
        self._all = {name: _Standing() for name in names}
        self._draws = np.random.default_rng(seed).standard_normal((_DRAWS, len(names) + 1))
        self._rungs = self._telling_rungs()
        self.would_drop: dict[str, float] = {}

    def seen(self, name: str, fraction: float, score: float | None, veto: str = "") -> None:
        """A preview was judged. score: overall, 0..100; None when the critic abstained. veto: why it is hopeless."""
        standing = self._all[name]
        standing.fraction = fraction
        if fraction >= _VETO_FROM:
            standing.veto = veto
        if score is not None:
            rung = self._table.at(fraction).fraction
            standing.score, standing.scored_at = score, rung
            standing.previews[rung] = score

    def finished(self, name: str, score: float | None) -> None:
        """A result was judged; None when the critic abstained."""
        standing = self._all[name]
        standing.fraction, standing.is_over, standing.final = 1.0, True, score

    def failed(self, name: str) -> None:
        """A candidate broke, or was given up by somebody else."""
        self._all[name].is_over = True

    def next(self) -> Move | None:
        """What to do now; None when the race is over."""
        first, *_ = self._all
        running = [name for name, standing in self._all.items() if not standing.is_over]
        if not running:
            return None
        if self._options.method == "halving":
            return self._halve(running)
        if first in running:
            return self._advance([first])
        if self._options.method == "plain":
            return self._advance(self._wave(running))
        return self._race(running)

    def promises(self) -> dict[str, tuple[float, float]]:
        """Of everybody who is not finished: expected gain over the best result so far in points for a whole
        candidate's steps, and the probability of beating it by a point."""
        scores = {name: self._sampled(name) for name, each in self._all.items() if not each.is_over}
        done = [each.final for each in self._all.values() if each.final is not None]
        best = max(done, default=-np.inf)
        found = {}
        for name, drawn in scores.items():
            others = np.max(
                [best + 0 * drawn, *[other for key, other in scores.items() if key != name]], axis=0
            )
            gain = float(np.maximum(drawn - best, 0).mean()) if done else np.inf
            left = max(_LEAST_LEFT, 1 - self._all[name].fraction)
            chance = float((drawn > others + 1).mean()) * self._table.risk_scale
            found[name] = (gain / left, min(1.0, chance))
        return found

    def _race(self, running: Sequence[str]) -> Move | None:
        started = [name for name in running if self._all[name].fraction > 0]
        fresh = [name for name in running if self._all[name].fraction == 0]
        for name in started:
            if self._all[name].veto:
                return self._out(Drop(name, None, self._all[name].veto))
        promises = self.promises()
        for name in sorted(started, key=lambda each: promises[each][0]):
            dropped = self._judge(name, *promises[name])
            if dropped is not None:
                return dropped
        likeliest = max(running, key=lambda each: promises[each][0])
        if self._all[likeliest].fraction > 0:
            return self._advance([likeliest])
        if promises[likeliest][0] >= self._options.price or self._options.is_audit:
            return self._advance(fresh[: self._options.wave])
        return self._advance(started) if started else None

    def _judge(self, name: str, promise: float, chance: float) -> Drop | None:
        """Drop it when it promises less than the price; an audit only notes that."""
        standing = self._all[name]
        if promise >= self._options.price or standing.scored_at == 0 or standing.is_audited:
            return None
        self.would_drop[name] = chance
        if self._options.is_audit:
            standing.is_audited = True
            return None
        best = max((each.final for each in self._all.values() if each.final is not None), default=0.0)
        reason = (
            f"its preview at {standing.scored_at:.0%} of the steps has {standing.score:.1f}, the best result "
            f"{best:.1f}; finishing it promises {promise * (1 - standing.fraction):.1f} points"
        )
        return self._out(Drop(name, chance, reason))

    def _out(self, drop: Drop) -> Drop:
        self._all[drop.name].is_over = True
        return drop

    def _halve(self, running: Sequence[str]) -> Move:
        for fraction, share in HALVING:
            behind = [name for name in running if self._all[name].fraction < fraction - 1e-6]
            if behind:
                return Advance(tuple(behind), fraction)
            kept = max(1, round(share * len(self._all)))
            if len(running) > kept:
                worst = min(running, key=lambda name: self._all[name].score)
                return self._out(
                    Drop(worst, None, f"not among the best {kept} at {fraction:.0%} of the steps")
                )
        return Advance(tuple(running), 1.0)

    def _wave(self, running: Sequence[str]) -> Sequence[str]:
        """Those who started together and are not done, else the next ones."""
        started = [name for name in running if self._all[name].fraction > 0]
        return started or running[: self._options.wave]

    def _telling_rungs(self) -> tuple[float, ...]:
        """The rungs at which a preview is worth a look: an audit and the yardsticks look at all."""
        rungs = self._options.rungs
        if self._options.method != "margin" or self._options.is_audit:
            return rungs
        return tuple(each for each in rungs if self._table.at(each).correlation >= LEAST_CORRELATION)

    def _advance(self, names: Sequence[str]) -> Advance:
        """On to the rung after the one where the hindmost of them stands."""
        done = min(self._all[name].fraction for name in names)
        ahead = [rung for rung in self._rungs if rung > done + 1e-6]
        return Advance(tuple(names), ahead[0] if ahead else 1.0)

    def _sampled(self, name: str) -> NDArray[np.float64]:
        """Draws of the final score of a candidate that is not finished, 0..100."""
        standing = self._all[name]
        rung = self._table.at(standing.scored_at)
        centre, doubt = self._shift(rung.fraction)
        preview = float(to_log_odds(standing.score)) if rung.fraction > 0 else 0.0
        mean = rung.intercept + rung.slope * preview + centre
        own = self._draws[:, list(self._all).index(name)]
        # One draw of the shift serves all: it moves every candidate of the edit alike.
        return from_log_odds(mean + doubt * self._draws[:, -1] + rung.error * own)

    def _shift(self, fraction: float) -> tuple[float, float]:
        """Mean and deviation of the edit's own shift at a rung, from the candidates that are finished."""
        rung = self._table.at(fraction)
        rests = []
        for standing in self._all.values():
            preview = standing.previews.get(rung.fraction, None if rung.fraction > 0 else 50.0)
            if standing.final is not None and preview is not None:
                told = rung.intercept + rung.slope * float(to_log_odds(preview))
                rests.append(float(to_log_odds(standing.final)) - told)
        if not rests or rung.shift <= 0:
            return 0.0, rung.shift
        precision = 1 / rung.shift**2 + len(rests) / rung.error**2
        return sum(rests) / rung.error**2 / precision, precision**-0.5
