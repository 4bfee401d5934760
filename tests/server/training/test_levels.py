"""Levels of alarms: few false ones, spent where they find most."""

from __future__ import annotations

import numpy as np

from editcritic.server.training.levels import Alarms, choose_levels


def _alarms(seed: int = 0) -> Alarms:
    """Three signals over 400 perfect and 400 faulty answers: one tells much, one a little, one nothing."""
    rng = np.random.default_rng(seed)
    clean, faulty = rng.normal(0, 1, (400, 3)), rng.normal(0, 1, (400, 3))
    faulty[:200, 0] += 2.5
    faulty[200:, 1] += 0.8
    right = np.zeros((400, 3), bool)
    right[:200, 0] = right[200:, 1] = True
    return Alarms(clean, faulty, right, np.full(400, 1 / 400))


def test_no_more_perfect_answers_raise_an_alarm_than_allowed() -> None:
    for share in (0.0, 0.02, 0.1):
        alarms = _alarms()
        levels = choose_levels(alarms, share)
        assert (alarms.clean > levels).any(axis=1).mean() <= share


def test_false_alarms_are_spent_on_the_signal_that_finds_most() -> None:
    alarms = _alarms()
    levels = choose_levels(alarms, 0.05)
    spent = (alarms.clean > levels).sum(axis=0)
    assert spent[0] > spent[2]
    equal = np.quantile(alarms.clean, 1 - 0.05 / 3, axis=0)
    assert (alarms.faulty > levels).any(axis=1).mean() > (alarms.faulty > equal).any(axis=1).mean()


def test_the_choice_holds_on_answers_that_it_did_not_see() -> None:
    levels, fresh = choose_levels(_alarms(), 0.04), _alarms(seed=1)
    assert (fresh.clean > levels).any(axis=1).mean() < 0.08
    assert (fresh.faulty > levels).any(axis=1).mean() > 0.4
