"""Questions whose answer nobody doubts, and changes that must not raise a score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, Outcome
from editcritic.server.training.defects import EditCase
from editcritic.server.training.evaluation import Job, build_case
from editcritic.server.training.report import wilson
from editcritic.server.training.suites.asking import Asked
from editcritic.server.training.suites.results import Figure, SuiteResult
from editcritic.v1 import critic_pb2 as pb

__all__ = ["bias_result", "invariance_result", "sanity_result"]

Pixels = NDArray[np.uint8]
_TOLERANCE = 1e-4


def _black(case: EditCase) -> Pixels:
    return np.asarray(np.where((case.mask > 0)[..., None], 0, case.clean), np.uint8)


def _random_noise(case: EditCase) -> Pixels:
    noise = np.random.default_rng(1).integers(0, 256, case.clean.shape)
    return np.asarray(np.where((case.mask > 0)[..., None], noise, case.clean), np.uint8)


_HOPELESS: Mapping[str, Callable[[EditCase], Pixels]] = {
    "black": _black,
    "unchanged": lambda case: case.source,
    "noise": _random_noise,
    "mirrored picture": lambda case: np.ascontiguousarray(case.clean[:, ::-1]),
    "another photograph": lambda case: case.donor,
}


def sanity_result(critic: Critic, jobs: Sequence[Job]) -> SuiteResult:
    """How often a perfect answer scores above a hopeless one, and the hopeless ones' mean score."""
    wins: dict[str, list[bool]] = defaultdict(list)
    values: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        case = build_case(job)
        asked = Asked.about(critic, case.source, case.mask)
        clean = asked.scores(case.candidate)["overall"] or 0.0
        for name, make in _HOPELESS.items():
            value = asked.scores(make(case))["overall"] or 0.0
            wins[name].append(clean > value)
            values[name].append(value)
    figures = []
    for name, hits in wins.items():
        share = wilson(sum(hits), len(hits))
        figures.append(Figure(f"above {name}", share.value, share.count, share.low, share.high, 1.0))
        figures.append(Figure(f"mean overall of {name}", float(np.mean(values[name])), len(hits)))
    return SuiteResult("sanity", "Does a perfect answer score above a hopeless one?", figures)


def _brighter(image: Pixels) -> Pixels:
    return np.asarray(np.clip(image.astype(np.float32) * 1.1, 0, 255), np.uint8)


def _more_saturated(image: Pixels) -> Pixels:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 1] = np.clip(hsv[..., 1] * 1.25, 0, 255)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)


def _sharper(image: Pixels) -> Pixels:
    plain = image.astype(np.float32)
    return np.asarray(np.clip(2 * plain - cv2.GaussianBlur(plain, (0, 0), 1.0), 0, 255), np.uint8)


_FLATTERY = {"brighter": _brighter, "more saturated": _more_saturated, "sharper": _sharper}


def bias_result(critic: Critic, jobs: Sequence[Job]) -> SuiteResult:
    """Mean change of the overall score when the inside, or the whole picture with its source, is flattered."""
    inside: dict[str, list[float]] = defaultdict(list)
    whole: dict[str, list[float]] = defaultdict(list)
    for job in jobs:
        case = build_case(job)
        asked = Asked.about(critic, case.source, case.mask)
        clean = asked.scores(case.candidate)["overall"] or 0.0
        for name, flatter in _FLATTERY.items():
            alpha = case.mask[..., None]
            changed = np.round(case.clean + alpha * (flatter(case.clean).astype(np.float32) - case.clean))
            inside[name].append((asked.scores(changed.astype(np.uint8))["overall"] or 0.0) - clean)
            both = Asked.about(critic, flatter(case.source), case.mask)
            whole[name].append((both.scores(flatter(case.candidate))["overall"] or 0.0) - clean)
    figures = []
    for name in _FLATTERY:
        rises = np.array(inside[name]) > 1.0
        figures += [
            Figure(
                f"inside {name}: mean change", float(np.mean(inside[name])), len(rises), aim=0.0, at_most=True
            ),
            Figure(f"inside {name}: share that gains a point", float(rises.mean()), len(rises)),
            Figure(f"picture {name}: mean change", float(np.mean(whole[name])), len(rises)),
        ]
    return SuiteResult(
        "flattery", "Does a score rise only because a picture is brighter or sharper?", figures
    )


def invariance_result(critic: Critic, jobs: Sequence[Job], size: int = 8) -> SuiteResult:
    """Largest difference of any score between a candidate alone and in a batch of others."""
    tasks = []
    for job in jobs[:size]:
        case = build_case(job)
        asked = Asked.about(critic, case.source, case.mask)
        tasks.append(
            CritiqueTask(asked.edit, asked.prepared, DecodedCandidate(job.photo.stem, case.candidate))
        )
    together = critic.critique(tasks, lambda: False)
    alone = [critic.critique([task], lambda: False)[0] for task in tasks]
    worst = max(_difference(one, other) for one, other in zip(together, alone, strict=True))
    figure = Figure("largest difference", worst, len(tasks), aim=_TOLERANCE, at_most=True)
    return SuiteResult("batch invariance", "Is a score the same whatever else is in its batch?", [figure])


def _difference(one: Outcome, other: Outcome) -> float:
    if not isinstance(one, pb.Critique) or not isinstance(other, pb.Critique):
        return float("nan")
    names = ("naturalness", "harmony", "preservation", "overall")
    return max(
        (abs(float(getattr(one.scores, name).value) - getattr(other.scores, name).value) for name in names),
        default=0.0,
    )
