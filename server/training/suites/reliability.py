"""Whether stated uncertainties are true: pairs of known order, by the probability that the scores give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from editcritic.server.training.suites.results import Figure, SuiteResult

__all__ = ["OrderedPair", "reliability_result"]

_BINS = 10
_COVERAGES = (1.0, 0.9, 0.8, 0.6, 0.4)


@dataclass(frozen=True)
class OrderedPair:
    """Scores of two candidates of which the first is better: values and standard deviations."""

    better: tuple[float, float]
    worse: tuple[float, float]


def reliability_result(pairs: Sequence[OrderedPair]) -> SuiteResult:
    """Expected calibration error (ten bins) of P(better > worse), a reliability curve, and an abstention curve.

    Source: ECE of Naeini et al. 2015; every pair counts in both orders, so that chance is one half.
    """
    if not pairs:
        return SuiteResult("calibration", "Are the stated uncertainties true?", [])
    means = np.array([[pair.better[0], pair.worse[0]] for pair in pairs])
    spreads = np.array([[pair.better[1], pair.worse[1]] for pair in pairs])
    z = (means[:, 0] - means[:, 1]) / np.maximum(np.hypot(spreads[:, 0], spreads[:, 1]), 1e-6)
    stated = np.concatenate([norm.cdf(z), norm.cdf(-z)])
    truth = np.concatenate([np.ones(len(z)), np.zeros(len(z))])
    error, curve = _calibration_error(stated, truth)
    right = z > 0
    surest = np.argsort(-np.abs(z))
    abstention = [
        (coverage, float(right[surest[: max(1, int(coverage * len(z)))]].mean())) for coverage in _COVERAGES
    ]
    figures = [Figure("expected calibration error", error, len(pairs), aim=0.1, at_most=True)]
    figures += [
        Figure(f"order accuracy on the surest {100 * coverage:.0f} %", share, int(coverage * len(z)))
        for coverage, share in abstention
    ]
    return SuiteResult(
        "calibration",
        "Are the stated uncertainties true, and is the critic right where it is sure?",
        figures,
        {"reliability": curve, "abstention": abstention},
    )


def _calibration_error(
    stated: NDArray[np.floating], truth: NDArray[np.floating]
) -> tuple[float, list[tuple[float, float]]]:
    places = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    error, curve = 0.0, []
    for place in range(_BINS):
        chosen = places == place
        if chosen.any():
            said, was = float(stated[chosen].mean()), float(truth[chosen].mean())
            curve.append((said, was))
            error += float(chosen.mean()) * abs(said - was)
    return error, curve
