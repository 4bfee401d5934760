"""Stage 4 and its label-free twin: curves and thresholds of a critic that is already trained.

`fit_calibration` needs no label: it judges clean controls and injected defects over photographs that the network
did not learn from, fits a rising curve from each output to the score that the severity stands for, makes the spreads
true for comparisons of answers to one edit, and chooses the levels from which a fault is named.

Sources: isotonic regression (Zadrozny and Elkan 2002); few-shot calibration as GRMP-IQA's setting (20 to 50 labels).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit
from scipy.stats import norm

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.border import BORDER_KINDS, measure_border, prepare_border
from editcritic.server.critics.network.calibration import Calibration, Curve
from editcritic.server.critics.network.findings import MEASURED
from editcritic.server.critics.network.model import KINDS, SCORES
from editcritic.server.critics.network.runner import Look, NetworkRunner
from editcritic.server.critics.network.view import look_at, view_edit
from editcritic.server.training.batches import labels_of
from editcritic.server.training.defects import INJECTIONS, EditCase, inject
from editcritic.server.training.evaluation import Job, build_case
from editcritic.server.training.levels import Alarms, choose_levels
from editcritic.server.training.suites.asking import hidden_source
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Sample", "collect_samples", "fit_calibration"]

_PARTS = 24
"""Points of a curve."""
_CLEAN_SCORE, _WORST_SCORE = 97.0, 8.0
_SEVERITIES = (0.3, 0.6, 1.0)
_HIDDEN = 0.5
_FAULTY_PRIOR = 0.2
_CONTOUR_CONTROLS = 3
_CLEAN_MASKS = 10
"""Perfect answers judged of every photograph: rare false alarms need many of them."""
_SPREADS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_FLOORS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_FLOORED = ("naturalness", "harmony")


@dataclass(frozen=True, eq=False)
class Sample:
    """What the network said of one candidate.

    Attributes:
        edit: number of the edit that it answers.
        injected, severity: its fault; empty and 0 for a clean one.
        mean, variance: (4,) of the scores.
        presence: (K,) in [0, 1] of the kinds.
        border: strengths of what is measured at the border, in the order of `BORDER_KINDS`.
    """

    edit: int
    injected: str
    severity: float
    mean: NDArray[np.floating]
    variance: NDArray[np.floating]
    presence: NDArray[np.floating]
    border: NDArray[np.floating]


def collect_samples(
    runner: NetworkRunner,
    jobs: Sequence[Job],
    contours: Sequence[Job] = (),
    told: Callable[[int, int], None] | None = None,
) -> list[Sample]:
    """Judge, of each photograph, every fault at one severity, and clean controls under several masks.

    Args:
        contours: photographs with object masks, of which clean controls under those masks are judged. A mask that
            follows an object's contour is where false alarms come from, and few photographs have one.
    """
    found = []
    for number, job in enumerate(jobs):
        rng = np.random.default_rng((job.seed, 3))
        case = build_case(job)
        hidden = rng.random() < _HIDDEN
        edit = number * _CLEAN_MASKS
        found.append(_sample(runner, edit, case, hidden))
        for name, injection in INJECTIONS.items():
            if injection.applies(case):
                severity = float(rng.choice(_SEVERITIES))
                spoiled = inject(case, name, severity, job.seed + 7)
                hides = hidden and name not in ("unchanged", "leftover")
                found.append(_sample(runner, edit, spoiled, hides))
        for other in range(1, _CLEAN_MASKS):
            again = replace(job, seed=int(rng.integers(2**31)))
            found.append(_sample(runner, edit + other, build_case(again), bool(rng.random() < _HIDDEN)))
        if told is not None:
            told(number + 1, len(jobs))
    for number, job in enumerate(contours, start=len(jobs) * _CLEAN_MASKS):
        for control in range(_CONTOUR_CONTROLS):
            case = build_case(replace(job, seed=job.seed + control, object_mask_share=1.0))
            edit = number * _CONTOUR_CONTROLS + control
            found.append(_sample(runner, edit, case, hidden=control == 0))
    return found


def fit_calibration(samples: Sequence[Sample], name: str, *, clean_flagged: float) -> Calibration:
    """Curves and thresholds.

    Args:
        samples: of photographs that the network did not learn from.
        name: told to clients with every critique.
        clean_flagged: share of clean controls that may be flagged with anything.
    """
    curves = {score: _curve(samples, place) for place, score in enumerate(SCORES)}
    return Calibration(name, curves, *_alarm_levels(samples, clean_flagged))


def _sample(runner: NetworkRunner, edit: int, case: EditCase, hidden: bool) -> Sample:
    source = hidden_source(case.source, case.mask) if hidden else case.source
    asked = DecodedEdit("calibration", source, case.mask)
    view, scene = view_edit(asked), prepare_border(asked)
    measured = measure_border(scene, case.candidate) if scene else {}
    output = runner(Look(view, *look_at(view, case.candidate)))
    return Sample(
        edit,
        case.injected,
        case.severity,
        output.mean[0].cpu().numpy(),
        output.log_variance[0].exp().cpu().numpy(),
        torch.sigmoid(output.kinds[0]).cpu().numpy(),
        np.array([measured[kind].strength if kind in measured else 0.0 for kind in BORDER_KINDS]),
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
    return _true_spread(curve, known, np.array(touched) > 0, place)


def _balanced(faulty: NDArray[np.bool_]) -> NDArray[np.floating]:
    """One candidate in five is taken to have the fault, however many of the samples do."""
    share = max(float(faulty.mean()), 1e-6)
    return np.where(faulty, _FAULTY_PRIOR / share, (1 - _FAULTY_PRIOR) / max(1 - share, 1e-6))


def _true_spread(curve: Curve, samples: Sequence[Sample], touched: NDArray[np.bool_], place: int) -> Curve:
    """The curve with the spread and floor that make P(better) true within one edit: least Brier score (1950).

    A logarithmic loss would widen all of them for a handful of sure mistakes.

    What photographs differ by falls out of every comparison that a search makes; the spread leaves it out too.
    """
    clean = {each.edit: at for at, each in enumerate(samples) if not each.injected}
    pairs = [
        (clean[each.edit], at)
        for at, each in enumerate(samples)
        if touched[at] and each.severity and each.edit in clean
    ]
    if not pairs:
        return curve
    better, worse = np.array(pairs).T
    least, chosen = np.inf, curve
    for spread in _SPREADS:
        bare = replace(curve, spread=spread, floor=0.0)
        said = np.array([bare.score(float(e.mean[place]), float(e.variance[place])) for e in samples])
        gap = said[better, 0] - said[worse, 0]
        for floor in _FLOORS:
            sigma = np.hypot(np.hypot(said[better, 1], said[worse, 1]), np.sqrt(2) * floor)
            loss = float(np.square(norm.sf(gap / sigma)).mean())
            if loss < least:
                least, chosen = loss, replace(curve, spread=spread, floor=floor)
    return chosen


def _alarm_levels(
    samples: Sequence[Sample], clean_flagged: float
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Thresholds of the kinds, floors of the scores, and strengths of what is measured at the border."""
    places = [SCORES.index(name) for name in _FLOORED]
    signals = np.stack([np.concatenate([e.presence, 1 - expit(e.mean[places]), e.border]) for e in samples])
    # What pixels tell exactly needs no level, and no alarm of the network.
    signals[:, [place for place, kind in enumerate(KINDS) if kind in MEASURED]] = 0.0
    clean = np.array([not each.injected for each in samples])
    names = [each.injected for each in samples]
    learned = np.array([not MEASURED.intersection(INJECTIONS[n].kinds) if n else False for n in names])
    told = [name for name, kept in zip(names, learned, strict=True) if kept]
    # A low score names its likeliest kind, which may be any.
    nameless = [None] * len(places)
    right = np.array(
        [[kind in INJECTIONS[n].kinds for kind in [*KINDS, *nameless, *BORDER_KINDS]] for n in told]
    )
    weights = np.array([1 / told.count(name) for name in told])
    alarms = Alarms(signals[clean], signals[learned], right, weights)
    levels = choose_levels(alarms, clean_flagged)
    learned_levels, own = np.clip(levels[: -len(BORDER_KINDS)], 0.05, 0.95), levels[-len(BORDER_KINDS) :]
    thresholds = dict(zip(map(_name, KINDS), learned_levels.tolist(), strict=False))
    floors = dict(zip(_FLOORED, (1 - learned_levels[len(KINDS) :]).tolist(), strict=True))
    return thresholds, floors, dict(zip(map(_name, BORDER_KINDS), own.tolist(), strict=True))


def _name(kind: int) -> str:
    return pb.DefectKind.Name(pb.DefectKind.ValueType(kind)).removeprefix("DEFECT_KIND_")
