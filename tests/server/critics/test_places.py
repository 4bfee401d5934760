"""Places in words."""

from __future__ import annotations

import numpy as np
import pytest

from editcritic.server.critics.finding import severity_of, strength_of
from editcritic.server.critics.places import place_words

INSIDE = np.zeros((90, 90), bool)
INSIDE[15:75, 15:75] = True
BORDER = np.zeros((90, 90), bool)
BORDER[10:80, 10:80] = True
BORDER[20:70, 20:70] = False


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        (slice(18, 30), slice(18, 30), "in the upper left part"),
        (slice(40, 50), slice(40, 50), "in the middle"),
        (slice(55, 68), slice(38, 50), "in the lower part"),
        (slice(10, 18), slice(60, 78), "on the upper right edge"),
        (slice(30, 60), slice(70, 79), "on the right edge"),
        (slice(15, 75), slice(15, 75), "all over the inside"),
    ],
)
def test_a_place_has_words(rows: slice, columns: slice, words: str) -> None:
    heat = np.zeros((90, 90), np.float32)
    heat[rows, columns] = 1
    assert place_words(heat, INSIDE, BORDER) == words


def test_the_whole_border_is_no_side_of_it() -> None:
    assert place_words(BORDER.astype(np.float32), INSIDE, BORDER) == "along the border"


def test_nothing_has_no_place() -> None:
    assert place_words(np.zeros((90, 90), np.float32), INSIDE, BORDER) == ""


@pytest.mark.parametrize("severity", [0.01, 0.2, 0.3, 0.5, 0.95])
def test_strength_and_severity_are_each_others_inverse(severity: float) -> None:
    assert severity_of(strength_of(severity)) == pytest.approx(severity)
