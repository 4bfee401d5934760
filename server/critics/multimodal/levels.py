"""A score from one forward pass: the expectation over five words, not a number that a model happened to write.

Source: Q-Align (Wu et al. 2023) for the words and the expectation, DeQA-Score (You et al. 2025) for the spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["LEVELS", "LevelDistribution"]

LEVELS = ("excellent", "good", "fair", "poor", "bad")
_VALUES = np.array([100.0, 75.0, 50.0, 25.0, 0.0])


@dataclass(frozen=True)
class LevelDistribution:
    """How likely a model finds each word.

    Attributes:
        probabilities: of `LEVELS`, in their order; they sum to 1.
    """

    probabilities: Sequence[float]

    @property
    def value(self) -> float:
        """The expectation, from 0 (bad) to 100 (excellent)."""
        return float(np.asarray(self.probabilities) @ _VALUES)

    @property
    def stddev(self) -> float:
        """The standard deviation: a model that wavers between excellent and bad says so."""
        return float(np.sqrt(np.asarray(self.probabilities) @ np.square(_VALUES - self.value)))
