"""From which level each signal of a critic raises an alarm, when few perfect answers may raise one.

Equal levels would spend the few false alarms that are allowed on signals that find little. The greedy choice
spends each where it finds most: the usual solution of a budgeted coverage problem (Nemhauser et al. 1978).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Alarms", "choose_levels"]

_LOOK_AHEAD = 4
_MARGIN = 0.02

Values = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Alarms:
    """Signals of n perfect and m faulty answers; S signals, higher means worse.

    Attributes:
        clean: (n, S).
        faulty: (m, S).
        right: (m, S) bool; whether an alarm of this signal names the fault rightly.
        weights: (m,) of the faulty answers.
    """

    clean: Values
    faulty: Values
    right: NDArray[np.bool_]
    weights: Values


def choose_levels(alarms: Alarms, share: float) -> Values:
    """Levels (S,) over which a signal is an alarm; at most `share` of the perfect answers raise one."""
    ordered = -np.sort(-alarms.clean, axis=0)  # (n, S), falling
    allowed = int(share * len(ordered))
    taken = np.zeros(ordered.shape[1], np.int64)
    while True:
        spent = _spent(alarms, ordered, taken)
        options = [
            (signal, taken[signal] + ahead)
            for signal in range(len(taken))
            for ahead in range(1, _LOOK_AHEAD + 1)
            if taken[signal] + ahead < len(ordered)
        ]
        best, chosen = 0.0, None
        found = _found(alarms, ordered, taken)
        for signal, count in options:
            tried = taken.copy()
            tried[signal] = count
            cost = _spent(alarms, ordered, tried) - spent
            if spent + cost > allowed:
                continue
            gain = (_found(alarms, ordered, tried) - found) / (cost + 0.1)
            if gain > best:
                best, chosen = gain, tried
        if chosen is None:
            return _levels(ordered, taken)
        taken = chosen


def _levels(ordered: Values, taken: NDArray[np.int64]) -> Values:
    signals = np.arange(ordered.shape[1])
    below = ordered[np.minimum(taken, len(ordered) - 1), signals]
    above = np.where(taken > 0, ordered[np.maximum(taken - 1, 0), signals], ordered[0] + 2 * _MARGIN)
    return (above + below) / 2


def _spent(alarms: Alarms, ordered: Values, taken: NDArray[np.int64]) -> int:
    return int((alarms.clean > _levels(ordered, taken)).any(axis=1).sum())


def _found(alarms: Alarms, ordered: Values, taken: NDArray[np.int64]) -> float:
    """Weight of the faulty answers that raise an alarm, and once more of those that raise a right one."""
    raised = alarms.faulty > _levels(ordered, taken)
    noticed = raised.any(axis=1).astype(float) + (raised & alarms.right).any(axis=1)
    return float(noticed @ alarms.weights)
