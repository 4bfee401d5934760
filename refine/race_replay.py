"""What a race would have done, on candidates that were all finished: the decisions are the race's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from editcritic.refine.preview_table import Group, PreviewTable
from editcritic.refine.race import Drop, MakeDrafts, Race, RaceOptions

__all__ = ["Outcome", "Record", "replay"]

_TIE = 1.0  # points within which another winner is as good


@dataclass(frozen=True)
class Record:
    """Candidates of one edit in the order of their start.

    Attributes:
        names: of the candidates. previews: of each, scores by share of the steps. finals: their final scores.
        drafts: scores of their drafts, NaN where there is none or the critic abstained; empty when none were made.
        rest: share of a whole candidate's steps that finishing one took after its draft; 1 where it started anew.
    """

    names: Sequence[str]
    previews: Sequence[Mapping[float, float]]
    finals: Sequence[float]
    drafts: Sequence[float] = ()
    rest: float = 1.0

    def best(self) -> str:
        """Name of the best."""
        return self.names[self.finals.index(max(self.finals))]

    def group(self) -> Group:
        """The same, by share of the steps."""
        shares = sorted({share for each in self.previews for share in each})
        return Group(
            {share: [each.get(share, float("nan")) for each in self.previews] for share in shares},
            self.finals,
            self.drafts,
            self.rest,
        )


@dataclass(frozen=True)
class Outcome:
    """What a race came to.

    Attributes:
        best: name of the best that was finished. cost: denoising, drafts among it, in whole candidates.
        stated: summed probability of ending as the best of those who were dropped. is_lost: whether the best of all by
            more than a point was among them.
    """

    best: str
    cost: float
    stated: float
    is_lost: bool


def replay(record: Record, table: PreviewTable, options: RaceOptions, seed: int) -> Outcome:
    """Run a race on a record; one without drafts is raced without them."""
    options = options if len(record.drafts) else replace(options, draft=False)
    race = Race(record.names, table, options, seed, record.rest)
    reached, drafting = dict.fromkeys(record.names, 0.0), 0.0
    finals = dict(zip(record.names, record.finals, strict=True))
    done: dict[str, float] = {}
    whole = dict.fromkeys(record.names, 1.0)
    while (move := race.next()) is not None:
        if isinstance(move, Drop):
            continue
        if isinstance(move, MakeDrafts):
            drafting += move.share * len(move.names)
            for name in move.names:
                whole[name] = record.rest
                score = record.drafts[record.names.index(name)]
                race.drafted(name, score if math.isfinite(score) else None)
            continue
        for name in move.names:
            reached[name] = move.fraction * whole[name]
            if move.fraction >= 1:
                done[name] = finals[name]
                race.finished(name, finals[name])
            else:
                seen = record.previews[record.names.index(name)]
                race.seen(name, move.fraction, _score_at(seen, move.fraction))
    best = max(done, key=done.__getitem__)
    winner = record.best()
    others = [score for name, score in finals.items() if name != winner]
    is_clear = not others or finals[winner] > max(others) + _TIE
    return Outcome(
        best,
        drafting + sum(reached.values()),
        sum(race.would_drop.values()),
        is_clear and winner in race.would_drop,
    )


def _score_at(seen: Mapping[float, float], share: float) -> float | None:
    near = [each for each in seen if abs(each - share) < 0.051]
    return seen[min(near, key=lambda each: abs(each - share))] if near else None
