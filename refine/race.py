"""The race: which candidate goes on, which is dropped half-way, and when it is over. Decides, and runs nothing.

::

    race = Race(["seed-1", "seed-2"], table, RaceOptions())
    while (move := race.next()) is not None:
        ...                             # carry the move out, then tell race.seen(...), finished(...) or failed(...)

A candidate's final score has a posterior (`preview_table`) from its previews, or from its draft (`drafting`): what its
seed becomes, seen after a quarter of the steps. The first candidate is
always finished: it is what the user would have got, and what the others have to beat. Of the others the one runs on
that promises the most gain for its remaining steps (expected improvement, Mockus 1975; stopping by a price as in
Weitzman 1979), and whoever promises less than the price is dropped. Successive halving is Karnin et al. 2013's, with
fixed rungs; plain best-of-N finishes everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.preview_table import (
    PRIOR,
    PRIOR_DRAFT,
    PreviewTable,
    Rung,
    from_log_odds,
    to_log_odds,
)

__all__ = [
    "HALVING",
    "LEAST_CORRELATION",
    "Advance",
    "Drop",
    "MakeDrafts",
    "Method",
    "Move",
    "Race",
    "RaceOptions",
]

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
        wave: how many candidates without a draft start together, for engines that denoise them in one pass.
        is_audit: decide as always, but drop nobody, to learn what dropping would have cost.
        draft: make drafts first; None in a margin race where the table knows that they tell, and in an audit where
            nobody knows that they do not. "halving" makes none.
    """

    method: Method = "margin"
    price: float = 1.0
    rungs: tuple[float, ...] = (0.2, 0.3, 0.4, 0.6)
    wave: int = 4
    is_audit: bool = False
    draft: bool | None = None


@dataclass(frozen=True)
class MakeDrafts:
    """Make drafts of candidates, in that share of the steps of a whole one, and judge them."""

    names: tuple[str, ...]
    share: float


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


Move: TypeAlias = MakeDrafts | Advance | Drop


@dataclass
class _Standing:
    """Where a candidate stands. looks: scores of its draft and previews, by the row of the table that reads them."""

    fraction: float = 0.0
    looks: dict[Rung, float] = field(default_factory=dict)
    is_over: bool = False
    final: float | None = None
    veto: str = ""
    is_audited: bool = False  # would have been dropped, but goes on
    has_draft: bool = False
    left: float = 1.0  # share of a whole candidate's steps that it still takes

    @property
    def is_fresh(self) -> bool:
        return self.fraction == 0 and not self.has_draft


class Race:
    """The state of one race.

    Args:
        names: candidates in the order of their start; the first is the plain one.
        table: how well previews tell. options: how to run it. seed: of the draws behind probabilities.
        rest: share of a whole candidate's steps that finishing one takes after its draft; 1 where it starts anew.

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
        rest: float = 1.0,
    ) -> None:
        self._table, self._options, self._rest = table, options or RaceOptions(), rest
        self._all = {name: _Standing() for name in names}
        self._draws = np.random.default_rng(seed).standard_normal((_DRAWS, len(names) + 1))
        self._draft = self._draft_rung()
        self._rungs = self._telling_rungs()
        self.would_drop: dict[str, float] = {}

    def drafted(self, name: str, score: float | None, veto: str = "", is_lost: bool = False) -> None:
        """A draft was judged. score: overall, 0..100; None when the critic abstained. veto: why it is hopeless.
        is_lost: there is no draft to go on from, so that the candidate starts anew."""
        standing = self._all[name]
        standing.has_draft, standing.veto = True, veto
        standing.left = 1.0 if is_lost else self._rest
        if score is not None and self._draft is not None:
            standing.looks[self._draft] = score

    def seen(self, name: str, fraction: float, score: float | None, veto: str = "") -> None:
        """A preview was judged. score: overall, 0..100; None when the critic abstained. veto: why it is hopeless."""
        standing = self._all[name]
        standing.fraction, standing.left = fraction, max(_LEAST_LEFT, 1 - fraction)
        if fraction >= _VETO_FROM:
            standing.veto = veto
        if score is not None:
            standing.looks[self._table.at(fraction)] = score

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
            return self._first(first)
        if self._options.method == "plain":
            return self._everybody(running)
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
            chance = float((drawn > others + 1).mean()) * self._table.risk_scale
            found[name] = (gain / self._left(name, float((drawn > best).mean())), min(1.0, chance))
        return found

    def promise_of_another(self, best: float) -> float:
        """Points that one more seed, finished in whole, is expected to gain over a result of that score."""
        rung = self._table.at(0)
        centre, doubt = self._shift(rung)
        shared, own = self._draws[:, -1], self._draws[:, 0]
        drawn = from_log_odds(rung.intercept + centre + doubt * shared + rung.error * own)
        return float(np.maximum(drawn - best, 0).mean())

    def reserve(self) -> list[str]:
        """Who was dropped for promising too little and is not finished since, the best by what is known first."""
        dropped = [name for name in self.would_drop if self._all[name].final is None]
        return sorted(dropped, key=lambda name: -float(self._sampled(name).mean()))

    def told(self, name: str) -> str:
        """What is known of a candidate that was judged before its end, in words with figures."""
        standing = self._all[name]
        rung = self._most_telling(standing)
        if rung == self._draft:
            return f"its draft in {rung.fraction:.0%} of the steps has {standing.looks[rung]:.1f}"
        return f"its preview at {rung.fraction:.0%} of the steps has {standing.looks[rung]:.1f}"

    def _left(self, name: str, chance: float) -> float:
        """Share of a whole candidate's steps that it still takes; without a draft, those of one and, should that say
        so, of the candidate itself."""
        standing = self._all[name]
        if self._draft is not None and standing.is_fresh:
            return self._draft.fraction + chance * self._rest
        return standing.left

    def _race(self, running: Sequence[str]) -> Move | None:
        started = [name for name in running if not self._all[name].is_fresh]
        fresh = [name for name in running if self._all[name].is_fresh]
        for name in started:
            if self._all[name].veto:
                return self._out(Drop(name, None, self._all[name].veto))
        promises = self.promises()
        for name in sorted(started, key=lambda each: promises[each][0]):
            dropped = self._judge(name, *promises[name])
            if dropped is not None:
                return dropped
        likeliest = max(running, key=lambda each: promises[each][0])
        if not self._all[likeliest].is_fresh:
            return self._advance([likeliest])
        if promises[likeliest][0] >= self._options.price or self._options.is_audit:
            return self._begin(fresh)
        return self._advance(started) if started else None

    def _first(self, first: str) -> Move:
        """The plain answer has a draft only where drafts are learned from, and start anew: it goes no large steps."""
        learns = self._rest >= 1 and (self._options.is_audit or self._options.method == "plain")
        if learns and self._draft is not None and self._all[first].is_fresh:
            return MakeDrafts((first,), self._draft.fraction)
        return self._advance([first])

    def _begin(self, fresh: Sequence[str]) -> Move:
        """Drafts are compared with each other, so all are made; of those without one a wave starts."""
        if self._draft is None:
            return self._advance(fresh[: self._options.wave])
        return MakeDrafts(tuple(fresh), self._draft.fraction)

    def _everybody(self, running: Sequence[str]) -> Move:
        started = [name for name in running if not self._all[name].is_fresh]
        undrafted = [name for name in running if self._all[name].is_fresh and self._draft is not None]
        if undrafted:
            return self._begin(undrafted)
        return self._advance((started or running)[: self._options.wave])

    def _judge(self, name: str, promise: float, chance: float) -> Drop | None:
        """Drop it when it promises less than the price; an audit only notes that."""
        standing = self._all[name]
        if promise >= self._options.price or not standing.looks or standing.is_audited:
            return None
        self.would_drop[name] = chance
        if self._options.is_audit:
            standing.is_audited = True
            return None
        best = max((each.final for each in self._all.values() if each.final is not None), default=0.0)
        reason = (
            f"{self.told(name)}, the best result {best:.1f}; "
            f"finishing it promises {promise * standing.left:.1f} points"
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
                worst = min(running, key=lambda name: self._score(self._all[name]))
                return self._out(
                    Drop(worst, None, f"not among the best {kept} at {fraction:.0%} of the steps")
                )
        return Advance(tuple(running), 1.0)

    def _draft_rung(self) -> Rung | None:
        """The row that reads drafts; None when none are made."""
        options, known = self._options, self._table.draft
        if options.draft is False or options.method == "halving":
            return None
        if options.draft or (options.is_audit and known is None):
            return known or PRIOR_DRAFT
        if options.method == "plain":
            return None
        return known if known is not None and known.correlation >= LEAST_CORRELATION else None

    def _telling_rungs(self) -> tuple[float, ...]:
        """The rungs at which a preview is worth a look: an audit and the yardsticks look at all."""
        rungs, known = self._options.rungs, self._draft.error if self._draft is not None else np.inf
        if self._options.method != "margin" or self._options.is_audit:
            return rungs
        rows = {each: self._table.at(each) for each in rungs}
        return tuple(
            each for each, row in rows.items() if row.correlation >= LEAST_CORRELATION and row.error < known
        )

    def _most_telling(self, standing: _Standing) -> Rung:
        return min(standing.looks, key=lambda each: each.error, default=self._table.at(0))

    def _score(self, standing: _Standing) -> float:
        return standing.looks.get(self._most_telling(standing), 0.0)

    def _advance(self, names: Sequence[str]) -> Advance:
        """On to the rung after the one where the hindmost of them stands; from a draft, to the end."""
        if any(self._all[name].has_draft and self._rest < 1 for name in names):
            return Advance(tuple(names), 1.0)
        done = min(self._all[name].fraction for name in names)
        ahead = [rung for rung in self._rungs if rung > done + 1e-6]
        return Advance(tuple(names), ahead[0] if ahead else 1.0)

    def _sampled(self, name: str) -> NDArray[np.float64]:
        """Draws of the final score of a candidate that is not finished, 0..100."""
        standing = self._all[name]
        rung = self._most_telling(standing)
        centre, doubt = self._shift(rung)
        preview = float(to_log_odds(standing.looks[rung])) if rung in standing.looks else 0.0
        mean = rung.intercept + rung.slope * preview + centre
        own = self._draws[:, list(self._all).index(name)]
        # One draw of the shift serves all: it moves every candidate of the edit alike.
        return from_log_odds(mean + doubt * self._draws[:, -1] + rung.error * own)

    def _shift(self, rung: Rung) -> tuple[float, float]:
        """Mean and deviation of the edit's own shift at a rung, from the candidates that are finished."""
        rests = []
        for standing in self._all.values():
            preview = standing.looks.get(rung, None if rung.fraction > 0 else 50.0)
            if standing.final is not None and preview is not None:
                told = rung.intercept + rung.slope * float(to_log_odds(preview))
                rests.append(float(to_log_odds(standing.final)) - told)
        if not rests or rung.shift <= 0:
            return 0.0, rung.shift
        precision = 1 / rung.shift**2 + len(rests) / rung.error**2
        return sum(rests) / rung.error**2 / precision, precision**-0.5
