"""The chance that a dropped candidate would have won is what audits found it to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from editcritic.refine.preview_table import Group, PreviewTable, Rung, table_from_message
from editcritic.refine.race import Drop, Race
from editcritic.refine.risk import with_audited_risk


def table(error: float) -> PreviewTable:
    """A preview at 20 % is the final score, but for an error in log-odds."""
    return PreviewTable((Rung(0.0, 0.0, 0.0, 1.0, 0.1, 0.0), Rung(0.2, 0.0, 1.0, error, 0.1, 0.9)))


def edits(count: int, error: float) -> list[Group]:
    """Edits of eight candidates whose finals really differ from their previews by that much."""
    rng, groups = np.random.default_rng(0), []
    for _ in range(count):
        odds = rng.normal(0, 1, 8)
        previews, finals = 100 / (1 + np.exp(-odds)), 100 / (1 + np.exp(-odds - rng.normal(0, error, 8)))
        groups.append(Group({0.2: previews.tolist()}, finals.tolist()))
    return groups


def test_a_table_that_is_too_cautious_overstates_its_risk_and_is_told_so() -> None:
    assert with_audited_risk(table(0.6), edits(40, error=0.1)).risk_scale < 0.5


def test_a_table_that_is_too_sure_understates_its_risk_and_is_told_so() -> None:
    assert with_audited_risk(table(0.2), edits(40, error=1.5)).risk_scale > 1.5


def test_few_edits_change_little_and_none_nothing() -> None:
    known = replace(table(0.6), risk_scale=0.3)
    assert with_audited_risk(known, []) == known
    few, many = (with_audited_risk(known, edits(count, error=1.5)).risk_scale for count in (2, 40))
    assert abs(few - 0.3) < 0.1 < many - 0.3


def test_the_scale_is_in_the_chance_that_is_told_and_changes_no_decision() -> None:
    told = {}
    for scale in (1.0, 0.25):
        race = Race(["a", "b"], replace(table(0.5), risk_scale=scale))
        race.finished("a", 80.0)
        race.seen("b", 0.2, 40.0)
        move = race.next()
        assert isinstance(move, Drop)
        told[scale] = move.probability
    assert told[1.0]
    assert told[0.25] == pytest.approx(0.25 * told[1.0])


def test_the_scale_travels_with_the_table() -> None:
    known = replace(table(0.5), risk_scale=0.3)
    assert table_from_message(known.to_message()) == known
    older = known.to_message()
    older.ClearField("risk_scale")
    assert table_from_message(older).risk_scale == 1.0
