"""Stage 4: the scale of the scores from 20 to 50 verdicts of people.

The order of candidates stays the critic's; what moves is what 70 means: afterwards a score is near 100 times the
chance that a person takes the edit. Few verdicts get a temperature and a shift, more an isotonic curve.

Sources: Platt scaling (1999) with his smoothed targets, temperature scaling (Guo et al. 2017), isotonic regression
(Zadrozny and Elkan 2002); the few-shot setting is GRMP-IQA's (2024).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from editcritic.server.critics.network.calibration import (
    Calibration,
    Curve,
    read_calibration,
    write_calibration,
)
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["VerdictFit", "calibrate_on_verdicts", "fit_verdicts", "read_verdicts"]

LEAST_VERDICTS = 20
ISOTONIC_FROM = 40
_TAKEN = {
    "VERDICT_KIND_ACCEPTED": 1.0,
    "VERDICT_KIND_PREFERRED": 1.0,
    "VERDICT_KIND_REJECTED": 0.0,
    "VERDICT_KIND_REVERTED": 0.0,
}
_BINS = 5
_FILES = ("network.safetensors", "alignment.safetensors")

Map = Callable[[NDArray[np.floating]], NDArray[np.floating]]


@dataclass(frozen=True)
class VerdictFit:
    """What a fit came to: number of verdicts, method, and the calibration error of each verdict left out in turn."""

    count: int
    method: str
    error_before: float
    error_after: float


def calibrate_on_verdicts(verdicts: Path, weights: Path, out: Path, method: str = "auto") -> VerdictFit:
    """Read verdicts, move the curves of a weights folder, write another folder.

    Raises:
        InvalidInput: fewer than 20 verdicts with a critique, an unknown method, or files that cannot be read.
    """
    scores, taken = read_verdicts(verdicts)
    if len(scores) < LEAST_VERDICTS:
        raise InvalidInput(
            f"{len(scores)} verdicts with a critique in {verdicts}; at least {LEAST_VERDICTS} are needed"
        )
    chosen = method if method != "auto" else "isotonic" if len(scores) >= ISOTONIC_FROM else "temperature"
    fitted = fit_verdicts(scores, taken, chosen)
    calibration = _moved(read_calibration(weights / "calibration.json"), fitted, len(scores))
    out.mkdir(parents=True, exist_ok=True)
    write_calibration(calibration, out / "calibration.json")
    for name in _FILES:
        if (weights / name).exists() and weights.resolve() != out.resolve():
            shutil.copyfile(weights / name, out / name)
    after = _left_out(scores, taken, chosen)
    return VerdictFit(len(scores), chosen, _error(scores / 100, taken), _error(after / 100, taken))


def read_verdicts(file: Path) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Overall scores that people saw, 0 to 100, and whether they took the edit, in [0, 1]."""
    if not file.exists():
        raise InvalidInput(f"there is no file of verdicts at {file}")
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute("SELECT kind, rating, critique FROM verdicts").fetchall()
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{file} is no file of verdicts: {error}") from error
    scores, taken = [], []
    for kind, rating, blob in rows:
        overall = pb.Critique.FromString(blob).scores.overall
        if overall.status == pb.SCORE_STATUS_SCORED and (rating is not None or kind in _TAKEN):
            scores.append(float(overall.value))
            taken.append(float(rating) / 100 if rating is not None else _TAKEN[kind])
    return np.array(scores), np.array(taken)


def fit_verdicts(scores: NDArray[np.floating], taken: NDArray[np.floating], method: str) -> Map:
    """A rising map from scores to 100 times the chance to be taken.

    Args:
        scores: (n,) in [0, 100].
        taken: (n,) in [0, 1].
        method: "temperature" or "isotonic".

    Raises:
        InvalidInput: the method is unknown.
    """
    if method == "temperature":
        return _fit_temperature(scores, taken)
    if method == "isotonic":
        return _fit_isotonic(scores, taken)
    raise InvalidInput(f"there is no method {method!r}; known are temperature, isotonic, auto")


def _fit_temperature(scores: NDArray[np.floating], taken: NDArray[np.floating]) -> Map:
    inputs = logit(np.clip(scores / 100, 0.01, 0.99))
    positive, negative = taken.sum(), (1 - taken).sum()
    targets = (taken * (positive + 1) / (positive + 2)) + (1 - taken) / (negative + 2)

    def loss(free: NDArray[np.floating]) -> float:
        chance = np.clip(expit(np.exp(free[0]) * inputs + free[1]), 1e-6, 1 - 1e-6)
        misfit = -(targets * np.log(chance) + (1 - targets) * np.log(1 - chance)).sum()
        # A weak pull to the scale as it is: with one-sided verdicts the slope would run away.
        return float(misfit + 0.5 * free[0] ** 2 + 0.05 * free[1] ** 2)

    slope, shift = minimize(loss, np.zeros(2), method="Nelder-Mead").x

    def apply(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asarray(100 * expit(np.exp(slope) * logit(np.clip(values / 100, 0.01, 0.99)) + shift))

    return apply


def _fit_isotonic(scores: NDArray[np.floating], taken: NDArray[np.floating]) -> Map:
    order = np.argsort(scores)
    fitted = isotonic_regression(taken[order]).x
    knots, values = scores[order], 100 * np.asarray(fitted)

    def apply(wanted: NDArray[np.floating]) -> NDArray[np.floating]:
        # A tenth of the old scale keeps different scores different on the curve's flat parts.
        return np.asarray(0.9 * np.interp(wanted, knots, values) + 0.1 * wanted)

    return apply


def _moved(calibration: Calibration, move: Map, count: int) -> Calibration:
    def moved(curve: Curve) -> Curve:
        return replace(curve, values=np.clip(move(np.array(curve.values)), 0.5, 99.5).tolist())

    curves = {name: moved(curve) for name, curve in calibration.curves.items()}
    return replace(calibration, name=f"{calibration.name}+verdicts-{count}", curves=curves)


def _left_out(scores: NDArray[np.floating], taken: NDArray[np.floating], method: str) -> NDArray[np.floating]:
    told = []
    for place in range(len(scores)):
        rest = np.arange(len(scores)) != place
        told.append(float(fit_verdicts(scores[rest], taken[rest], method)(scores[place : place + 1])[0]))
    return np.array(told)


def _error(chances: NDArray[np.floating], taken: NDArray[np.floating]) -> float:
    """Expected calibration error over five bins of equal number."""
    order = np.argsort(chances)
    parts: Sequence[NDArray[np.intp]] = np.array_split(order, _BINS)
    return float(
        sum(len(part) / len(order) * abs(float(chances[part].mean() - taken[part].mean())) for part in parts)
    )
