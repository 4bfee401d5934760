"""How often a race loses its winner against how often it says so: learned from edits that were finished whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from editcritic.refine.preview_table import Group, PreviewTable
from editcritic.refine.race import RaceOptions
from editcritic.refine.race_replay import Record, replay

__all__ = ["with_audited_risk"]

_PRICES = (0.5, 1.0, 2.0)  # a winner is rarely lost; several prices make the most of few edits
_MOST_GROUPS = 100
_PRIOR_LOSSES = 2.0  # lost winners that the scale so far counts for


def with_audited_risk(table: PreviewTable, groups: Sequence[Group]) -> PreviewTable:
    """The table with its chances of ending as the best scaled to what happened: winners lost over winners stated.

    Scores have a ceiling, and a normal error has none, so that bare chances are too high.

    Args:
        table: fitted.
        groups: edits whose candidates were all finished, the newest last; the last hundred are replayed.
    """
    bare = replace(table, risk_scale=1.0)
    records = [_record(group) for group in groups[-_MOST_GROUPS:] if len(group.finals) > 1]
    outcomes = [
        replay(record, bare, RaceOptions(price=price), seed)
        for price in _PRICES
        for seed, record in enumerate(records)
    ]
    stated = sum(outcome.stated for outcome in outcomes)
    lost = sum(outcome.is_lost for outcome in outcomes)
    weight = _PRIOR_LOSSES / table.risk_scale
    return replace(table, risk_scale=(lost + _PRIOR_LOSSES) / (stated + weight))


def _record(group: Group) -> Record:
    names = [str(number) for number in range(len(group.finals))]
    previews = [
        {share: scores[number] for share, scores in group.previews.items() if np.isfinite(scores[number])}
        for number in range(len(names))
    ]
    return Record(names, previews, list(group.finals), list(group.drafts), group.rest)
