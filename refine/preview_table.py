"""How well previews tell the final score: one row for each share of the steps, learned from races that were not pruned.

Scores are taken as log-odds, in which the step from 90 to 95 counts as much as that from 5 to 10: near the top, where a
race is decided, scores vary little. Within one edit, final = intercept + slope * preview + shift + error. The shift is
the edit's own (some edits are hard for every seed); the error is the candidate's. What decides a race is the error: a
shift moves all candidates alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import refine_pb2

__all__ = [
    "PRIOR",
    "PRIOR_DRAFT",
    "Group",
    "PreviewTable",
    "Rung",
    "fit_table",
    "from_log_odds",
    "rank_correlation",
    "table_from_message",
    "to_log_odds",
]

Array = NDArray[np.float64]

_PRIOR_GROUPS = 8  # groups that a guessed prior counts for; a measured one counts for its own
_MIN_GROUP = 3
_LEAST_ERROR = 0.05  # a table of a few groups must not be surer than that
_ENDS = 2.0  # points beyond 0 and 100 at which the odds would be infinite


@dataclass(frozen=True)
class Rung:
    """What a preview at one share of the steps tells of the final score.

    Attributes:
        fraction: share of the executed steps, in [0, 1]; 0 is a candidate that was not started.
        intercept, slope: of the final score over the preview's, in log-odds.
        error: standard deviation of a candidate's final score about that line, in log-odds.
        shift: standard deviation of the edit's own shift of that line, in log-odds.
        correlation: mean rank correlation of preview and final score within an edit, in [-1, 1].
    """

    fraction: float
    intercept: float
    slope: float
    error: float
    shift: float
    correlation: float


@dataclass(frozen=True)
class Group:
    """One edit whose candidates were all finished.

    Attributes:
        previews: by share of the steps, as many scores as candidates, 0..100; NaN where the critic abstained.
        finals: the candidates' final scores, 0..100.
        drafts: scores of their drafts, likewise; empty where none were made.
        rest: share of a whole candidate's steps that finishing one took after its draft.
    """

    previews: Mapping[float, Sequence[float]]
    finals: Sequence[float]
    drafts: Sequence[float] = field(default=())
    rest: float = 1.0


@dataclass(frozen=True)
class PreviewTable:
    """The rungs, rising in fraction, the first at 0.

    group_count: edits that it was learned from. risk_scale: what a stated chance of ending as the best is multiplied by
    to be what audits found; see `risk.with_audited_risk`. draft: the row of a draft, whose fraction is its share of the
    steps; None where nobody knows what drafts tell.
    """

    rungs: tuple[Rung, ...]
    group_count: int = 0
    risk_scale: float = 1.0
    draft: Rung | None = None

    def at(self, fraction: float) -> Rung:
        """The row of the last rung that lies at or before `fraction`."""
        return [rung for rung in self.rungs if rung.fraction <= fraction + 1e-6][-1]

    def to_message(self) -> refine_pb2.PreviewTable:
        """The table as a message, so that a run can be repeated with it."""
        rungs = [refine_pb2.PreviewRung(**vars(rung)) for rung in self.rungs]
        draft = refine_pb2.PreviewRung(**vars(self.draft)) if self.draft is not None else None
        return refine_pb2.PreviewTable(
            rungs=rungs, group_count=self.group_count, risk_scale=self.risk_scale, draft=draft
        )


def _assumed(fraction: float, slope: float) -> Rung:
    return Rung(fraction, 1 - slope, slope, (1 - slope**2) ** 0.5, 1.0, slope)


# Cautious: the "weak" previews of a simulation, and scores that are widely spread. They say little before the middle,
# so that little of an unknown engine is pruned.
PRIOR = PreviewTable(
    tuple(
        _assumed(fraction, slope)
        for fraction, slope in (
            (0.0, 0.0),
            (0.1, 0.15),
            (0.2, 0.3),
            (0.3, 0.4),
            (0.4, 0.55),
            (0.6, 0.75),
            (0.8, 0.9),
        )
    )
)
"""What is assumed of an engine and a critic that were never seen together."""
PRIOR_DRAFT = _assumed(0.25, 0.4)
"""What is assumed of drafts that were never measured: little more than of a preview after as many steps."""


def to_log_odds(scores: Array | float) -> Array:
    """Scores 0..100 as log-odds; even 0 and 100 are finite."""
    values = np.asarray(scores, float)
    return np.asarray(np.log((values + _ENDS) / (100 + _ENDS - values)))


def from_log_odds(odds: Array | float) -> Array:
    """Log-odds as scores, which may lie up to two points beyond 0..100."""
    return np.asarray((100 + 2 * _ENDS) / (1 + np.exp(-np.asarray(odds, float))) - _ENDS)


def table_from_message(message: refine_pb2.PreviewTable) -> PreviewTable:
    """The table of a message."""
    draft = _rung(message.draft) if message.HasField("draft") else None
    rungs = tuple(_rung(each) for each in message.rungs)
    return PreviewTable(rungs, message.group_count, message.risk_scale or 1.0, draft)


def _rung(message: refine_pb2.PreviewRung) -> Rung:
    return Rung(**{name: getattr(message, name) for name in Rung.__dataclass_fields__})


def fit_table(groups: Sequence[Group], prior: PreviewTable = PRIOR) -> PreviewTable:
    """Least squares within edits at every rung of the prior, drawn towards it while there are few.

    Groups of fewer than three candidates tell nothing of an order and are left out.
    """
    told = [group for group in groups if len(group.finals) >= _MIN_GROUP]
    if not told:
        return prior
    weight = max(_PRIOR_GROUPS, prior.group_count)
    rungs = tuple(
        _fit_rung([_pairs(group, rung.fraction) for group in told], rung, weight) for rung in prior.rungs
    )
    draft = prior.draft
    if drafted := [group for group in told if len(group.drafts)]:
        weight = weight if draft is not None else _PRIOR_GROUPS
        draft = _fit_rung(
            [_known(group.drafts, group.finals) for group in drafted], draft or PRIOR_DRAFT, weight
        )
    return PreviewTable(rungs, len(told) + prior.group_count, prior.risk_scale, draft)


def rank_correlation(previews: Sequence[float] | Array, finals: Sequence[float] | Array) -> float | None:
    """Spearman's rho of one edit's candidates; 0 where all previews tie, None where there is no order to find."""
    from scipy.stats import rankdata

    first, second = np.asarray(previews, float), np.asarray(finals, float)
    known = np.isfinite(first) & np.isfinite(second)
    first, second = rankdata(first[known]), rankdata(second[known])
    if len(second) < _MIN_GROUP or np.ptp(second) == 0:
        return None
    if np.ptp(first) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _fit_rung(found: Sequence[tuple[Array, Array]], prior: Rung, weight: int) -> Rung:
    pairs = [(first, second) for first, second in found if len(second) >= _MIN_GROUP]
    if not pairs:
        return prior
    share = len(pairs) / (len(pairs) + weight)
    slope = _mix(_slope(pairs), prior.slope, share) if prior.fraction > 0 else 0.0
    offsets = [second - slope * first for first, second in pairs]
    intercept = float(np.mean([each.mean() for each in offsets]))
    freedom = sum(len(each) - 1 for each in offsets)
    error = sum(float(((each - each.mean()) ** 2).sum()) for each in offsets) / freedom
    size = float(np.mean([len(each) for each in offsets]))
    shift = max(0.0, float(np.var([each.mean() for each in offsets])) - error / size)
    told = [rank_correlation(*pair) for pair in pairs] if prior.fraction > 0 else [0.0]
    correlation = float(np.mean([each for each in told if each is not None] or [0.0]))
    return Rung(
        prior.fraction,
        _mix(intercept, prior.intercept, share),
        slope,
        max(_LEAST_ERROR, _mix(error, prior.error**2, share) ** 0.5),
        _mix(shift, prior.shift**2, share) ** 0.5,
        _mix(correlation, prior.correlation, share),
    )


def _pairs(group: Group, fraction: float) -> tuple[Array, Array]:
    if fraction == 0:
        finals = to_log_odds(np.asarray(group.finals, float))
        return np.zeros_like(finals), finals
    return _known(group.previews.get(fraction, ()), group.finals)


def _known(seen: Sequence[float], ended: Sequence[float]) -> tuple[Array, Array]:
    """What was seen and how it ended, in log-odds, of those that got both scores."""
    if not len(seen):
        return np.zeros(0), np.zeros(0)
    previews, finals = to_log_odds(np.asarray(seen, float)), to_log_odds(np.asarray(ended, float))
    known = np.isfinite(previews) & np.isfinite(finals)
    return previews[known], finals[known]


def _slope(pairs: Sequence[tuple[Array, Array]]) -> float:
    first = np.concatenate([each - each.mean() for each, _ in pairs])
    second = np.concatenate([each - each.mean() for _, each in pairs])
    return float(first @ second / max(float(first @ first), 1e-9))


def _mix(found: float, assumed: float, share: float) -> float:
    return share * found + (1 - share) * assumed
