"""How every part of an evaluation tells its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Figure", "SuiteResult"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what was measured.
        value: the figure; shares are from 0 to 1.
        count: cases it rests on.
        low, high: 95 % interval, where there is one.
        aim: what it should reach at least (or at most, when `at_most`); None without an aim.
        at_most: whether smaller is better.
    """

    name: str
    value: float
    count: int
    low: float | None = None
    high: float | None = None
    aim: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.at_most else self.value >= self.aim


@dataclass(frozen=True)
class SuiteResult:
    """One part of an evaluation.

    Attributes:
        name: of the part.
        question: what was asked, in a sentence.
        figures: the answers.
        curves: points of plots, (x, y) by name.
    """

    name: str
    question: str
    figures: Sequence[Figure]
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        figures = [asdict(figure) | {"reached": figure.reached} for figure in self.figures]
        return {"name": self.name, "question": self.question, "figures": figures, "curves": dict(self.curves)}
