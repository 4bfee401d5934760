"""Says how natural the inside of an edit is for the photograph round it, from statistics of its pixels.

It has no part in a search nor in what is accepted; no critic, loop or engine has seen it, and it has seen none of
them: it knows untouched photographs only (`fit.py`). How often it is right about known faults, and where it is blind,
stands in docs/quality.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.natural_statistics.seeing import see
from editcritic.plugin.natural_statistics.usual import Usual

__all__ = ["STATISTICS", "NaturalStatistics"]

STATISTICS = Path(__file__).with_name("statistics.npz")


class NaturalStatistics:
    """`NaturalStatistics().judge(source, picture, mask)`."""

    def __init__(self, statistics: Path = STATISTICS) -> None:
        self._usual = Usual.load(statistics)

    def judge(self, source: NDArray[np.uint8], picture: NDArray[np.uint8], mask: NDArray[Any]) -> float:
        """0 to 100, higher is more natural: 50 is typical of an untouched photograph, 20 is twice as far off.

        Args:
            source: (H, W, 3) uint8, of which the ring is taken. picture: (H, W, 3) uint8, the edit.
            mask: (H, W) bool, or float in [0, 1]; the inside is where it is over one half.

        Raises:
            InvalidInput: shapes differ, or inside or ring is under about 20 x 20 px.
        """
        return self._usual.score(see(source, picture, mask))

    def distance(self, source: NDArray[np.uint8], picture: NDArray[np.uint8], mask: NDArray[Any]) -> float:
        """What the score falls with, for edits of one mask: 0.7 in the middle of the untouched, without an upper end.

        Arguments and errors are those of `judge`.
        """
        return self._usual.distance(see(source, picture, mask))
