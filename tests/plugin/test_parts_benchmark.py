"""The bench of an edit's parts: what it spoils, and figures that a person can check by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from editcritic.plugin.parts_benchmark import ROUTES, Outcome, part_rows, spoiled_parts
from editcritic.refine.engine import load_engine
from editcritic.refine.repair import REPAIRS
from editcritic.server.training.defects import clean_control


def outcome(before: float, after: float, steps: int) -> Outcome:
    scores = {"network": before}, {"network": after}
    return Outcome("cup", "one pass", True, *scores, steps=steps, kept=1)


def test_rows_tell_how_many_rose_by_how_much_and_for_how_many_steps() -> None:
    (row,) = part_rows([outcome(50, 58, 18), outcome(60, 58, 18), outcome(40, 40, 9)])
    assert (row["route"], row["guarded"], row["critic"], row["cases"]) == ("one pass", True, "network", 3)
    assert (row["rises"], row["gain"], row["steps"]) == (pytest.approx(1 / 3), 2.0, 15.0)
    assert row["error"] == pytest.approx(28**0.5 / 3**0.5)  # deviations of 6, -4 and -2


def test_routes_are_made_of_repairs_that_there_are() -> None:
    assert {kind for route in ROUTES.values() for kind in route} <= REPAIRS.keys()


def test_two_ends_of_the_answer_are_spoiled_and_its_middle_and_the_outside_stand() -> None:
    photo, donor = data.coffee()[100:260, 100:300], data.astronaut()[100:260, 100:300]
    mask = np.zeros(photo.shape[:2], np.float32)
    mask[40:120, 60:140] = 1
    edit = clean_control(photo, donor, mask, seed=3)
    case = spoiled_parts(edit, load_engine("dummy"), "", seed=3)
    changed = (case.candidate != case.clean).any(axis=-1)
    assert not changed[mask == 0].any()
    assert not changed[75:85, 95:105].any()
    shares = [changed[40:120, 60:140][half].mean() for half in np.s_[:40, 40:]]
    assert max(shares) > 0.05
