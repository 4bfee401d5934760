"""Stage 4 and its label-free twin: curves and thresholds of a critic that is already trained.

`fit_calibration` needs no label: it judges clean controls and injected defects over photographs that the network
did not learn from, fits a rising curve from each output to the score that the severity stands for, and chooses for
each kind the level that few clean controls exceed. `recalibrate` moves those curves with the verdicts of people.

Sources: isotonic regression (Zadrozny and Elkan 2002); few-shot calibration as GRMP-IQA's setting (20 to 50 labels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.calibration import Calibration, Curve
from editcritic.server.critics.network.model import KINDS, SCORES
from editcritic.server.critics.network.runner import Look, NetworkRunner
from editcritic.server.critics.network.view import look_at, view_edit
from editcritic.server.training.batches import labels_of
from editcritic.server.training.defects import INJECTIONS, EditCase, inject
from editcritic.server.training.evaluation import Job, build_case
from editcritic.server.training.suites.asking import hidden_source
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Sample", "collect_samples", "fit_calibration"]

_PARTS = 24
"""Points of a curve."""
_CLEAN_SCORE, _WORST_SCORE = 97.0, 8.0
_SEVERITIES = (0.3, 0.6, 1.0)
_HIDDEN = 0.5
_FAULTY_PRIOR = 0.2


@dataclass(frozen=True, eq=False)
class Sample:
    """What the network said of one candidate.

    Attributes:
        injected, severity: its fault; empty and 0 for a clean one.
        mean, variance: (4,) of the scores.
        presence: (K,) in [0, 1] of the kinds.
    """

    injected: str
    severity: float
    mean: NDArray[np.floating]
    variance: NDArray[np.floating]
    presence: NDArray[np.floating]


def collect_samples(
    runner: NetworkRunner, jobs: Sequence[Job], told: Callable[[int, int], None] | None = None
) -> list[Sample]:
    """Judge one clean control, and every fault at one severity, of each photograph."""
    found = []
    for number, job in enumerate(jobs):
        rng = np.random.default_rng((job.seed, 3))
        case = build_case(job)
        hidden = rng.random() < _HIDDEN
        found.append(_sample(runner, case, hidden))
        for name, injection in INJECTIONS.items():
            if injection.applies(case):
                severity = float(rng.choice(_SEVERITIES))
                spoiled = inject(case, name, severity, job.seed + 7)
                found.append(_sample(runner, spoiled, hidden and name not in ("unchanged", "leftover")))
        if told is not None:
            told(number + 1, len(jobs))
    return found


def fit_calibration(samples: Sequence[Sample], name: str, *, clean_flagged: float) -> Calibration:
    """Curves and thresholds.

    Args:
        samples: of photographs that the network did not learn from.
        name: told to clients with every critique.
        clean_flagged: share of clean controls that may be flagged with anything.
    """
    curves = {score: _curve(samples, place) for place, score in enumerate(SCORES)}
    return Calibration(name, curves, _thresholds(samples, clean_flagged))


def _sample(runner: NetworkRunner, case: EditCase, hidden: bool) -> Sample:
    source = hidden_source(case.source, case.mask) if hidden else case.source
    view = view_edit(DecodedEdit("calibration", source, case.mask))
    output = runner(Look(view, *look_at(view, case.candidate)))
    return Sample(
        case.injected,
        case.severity,
        output.mean[0].cpu().numpy(),
        output.log_variance[0].exp().cpu().numpy(),
        torch.sigmoid(output.kinds[0]).cpu().numpy(),
    )


def _curve(samples: Sequence[Sample], place: int) -> Curve:
    known = [each for each in samples if bool(labels_of(each.injected).told[place])]
    touched = [float(labels_of(each.injected).touched[place]) for each in known]
    means = np.array([each.mean[place] for each in known])
    targets = np.array(
        [
            _CLEAN_SCORE - (_CLEAN_SCORE - _WORST_SCORE) * each.severity * share
            for each, share in zip(known, touched, strict=True)
        ]
    )
    weights = _balanced(np.array(touched) > 0)
    order = np.argsort(means)
    fitted = isotonic_regression(targets[order], weights=weights[order]).x
    inputs = np.quantile(means, np.linspace(0.005, 0.995, _PARTS))
    values = np.interp(inputs, means[order], fitted)
    # An isotonic fit has steps; a slight slope keeps every better output a better score.
    values = np.clip(values + np.linspace(-1.0, 1.0, _PARTS), 1.0, 99.0)
    curve = Curve(inputs.tolist(), values.tolist())
    clean = [curve.score(float(each.mean[place]), 0.0)[0] for each in known if not each.injected]
    curve = replace(curve, floor=max(0.5, float(np.std(clean))))
    return replace(curve, spread=_spread(curve, known, targets, place))


def _balanced(faulty: NDArray[np.bool_]) -> NDArray[np.floating]:
    """One candidate in five is taken to have the fault, however many of the samples do."""
    share = max(float(faulty.mean()), 1e-6)
    return np.where(faulty, _FAULTY_PRIOR / share, (1 - _FAULTY_PRIOR) / max(1 - share, 1e-6))


def _spread(curve: Curve, samples: Sequence[Sample], targets: NDArray[np.floating], place: int) -> float:
    """The factor with which about two thirds of the targets lie within one standard deviation."""
    best, nearest = 1.0, 1.0
    for factor in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0):
        tried = replace(curve, spread=factor)
        said = [tried.score(float(each.mean[place]), float(each.variance[place])) for each in samples]
        within = np.mean(
            [abs(value - target) <= spread for (value, spread), target in zip(said, targets, strict=True)]
        )
        if abs(within - 0.68) < nearest:
            best, nearest = factor, abs(float(within) - 0.68)
    return best


def _thresholds(samples: Sequence[Sample], clean_flagged: float) -> dict[str, float]:
    """Levels at which each kind alone flags the same share of clean controls, all together `clean_flagged`."""
    clean = np.stack([each.presence for each in samples if not each.injected])
    low, high = 0.0, clean_flagged
    for _ in range(20):
        middle = (low + high) / 2
        flagged = float((clean > _levels(clean, middle)).any(axis=1).mean())
        low, high = (middle, high) if flagged <= clean_flagged else (low, middle)
    levels = _levels(clean, low)
    names = [pb.DefectKind.Name(pb.DefectKind.ValueType(kind)).removeprefix("DEFECT_KIND_") for kind in KINDS]
    return {name: float(np.clip(level, 0.05, 0.95)) for name, level in zip(names, levels, strict=True)}


def _levels(clean: NDArray[np.floating], share: float) -> NDArray[np.floating]:
    return np.asarray(np.quantile(clean, 1 - share, axis=0) + 1e-4)
