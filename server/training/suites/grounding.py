"""Finding the edited region without being told the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from editcritic.server.training.evaluation import Job, build_case
from editcritic.server.training.pairs import reencode
from editcritic.server.training.suites.results import Figure, SuiteResult

__all__ = ["Grounder", "grounding_result", "region_iou"]

_AIM = 0.6
_QUALITY = 90


class Grounder(Protocol):
    """A critic that can find an edit by itself."""

    def find_edit(self, source: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W) in [0, 1]: how surely each pixel was edited."""


def region_iou(found: NDArray[np.float32], truth: NDArray[np.bool_], level: float = 0.5) -> float:
    """Intersection over union of what reaches `level` and the truth; 1 when both are empty."""
    seen = found >= level
    joined = int((seen | truth).sum())
    return float((seen & truth).sum()) / joined if joined else 1.0


def grounding_result(critic: Grounder, jobs: Sequence[Job]) -> SuiteResult:
    """Mean IoU as the candidate is, and after re-encoding the whole of it, so that every pixel differs a little."""
    values: dict[str, list[float]] = {"as it is": [], "re-encoded": []}
    for job in jobs:
        case = build_case(job)
        truth = case.mask > 0.5
        asked = {"as it is": case.candidate, "re-encoded": reencode(case.candidate, _QUALITY)}
        for name, candidate in asked.items():
            values[name].append(region_iou(critic.find_edit(case.source, candidate), truth))
    figures = [
        Figure(
            f"mean IoU, {name}",
            float(np.mean(each)),
            len(each),
            aim=_AIM,
        )
        for name, each in values.items()
    ]
    return SuiteResult("grounding", "Without the mask: where is the edit?", figures)
