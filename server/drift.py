"""Whether scores still look as they did: the population stability index of a recent window against the first one."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from editcritic.server.settings import DRIFT_BINS

__all__ = ["ScoreDrift"]

_SMOOTHING = 0.5


class ScoreDrift:
    """The population stability index, sum of (p - q) ln(p / q) over ten bins of equal share in the reference.

    Below 0.1 the scores are taken as stable and above 0.25 as shifted (Siddiqi 2006); two windows of 500 from the same
    scores differ by about 0.04 by chance. It tells that the pictures or the engine changed, not which is better.

    Args:
        window: scores of the reference, which are the first to come, and of the latest.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._reference: list[float] = []
        self._latest: deque[float] = deque(maxlen=window)

    def note(self, score: float) -> None:
        """Count one score, 0 to 100."""
        if len(self._reference) < self._window:
            self._reference.append(score)
        else:
            self._latest.append(score)

    def index(self) -> float:
        """The index, from 0; not a number until both windows are full."""
        if len(self._latest) < self._window:
            return math.nan
        # A copy, because scores may come while another thread asks.
        reference, latest = np.array(self._reference), np.array(list(self._latest))
        edges = np.unique(np.quantile(reference, np.linspace(0, 1, DRIFT_BINS + 1)[1:-1]))
        before, after = _shares(reference, edges), _shares(latest, edges)
        return float(np.sum((after - before) * np.log(after / before)))


def _shares(scores: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the scores in each bin, none of them zero."""
    counts = np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1) + _SMOOTHING
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
