"""From the network's outputs to scores and severities: curves and thresholds that were fitted, not guessed.

The file beside the weights holds one rising curve per score (isotonic regression on calibration photographs),
the factor by which the network's own spread has to be multiplied, the level from which each kind is named, and
the floor of each score under which the likeliest kind is named even if none reaches its level.
`editcritic.server.training.calibration` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from editcritic.server.critics.finding import AT_THRESHOLD
from editcritic.server.critics.scoring import MAX_STDDEV
from editcritic.v1.errors import InvalidInput

__all__ = ["Calibration", "Curve", "read_calibration", "write_calibration"]


@dataclass(frozen=True)
class Curve:
    """A rising, piecewise linear map.

    Attributes:
        inputs: rising outputs of the network, without a unit.
        values: scores from 0 to 100, as many, not falling.
        spread: factor for the network's own standard deviation.
        floor: least standard deviation of a score.
    """

    inputs: Sequence[float]
    values: Sequence[float]
    spread: float = 1.0
    floor: float = 1.0

    def score(self, mean: float, variance: float) -> tuple[float, float]:
        """Value and standard deviation, both in 0..100, of a Gaussian output."""
        sigma = self.spread * float(np.sqrt(variance))
        low, value, high = (self._at(mean + offset) for offset in (-sigma, 0.0, sigma))
        return value, min(float(np.hypot(self.floor, (high - low) / 2)), MAX_STDDEV)

    def _at(self, mean: float) -> float:
        # Beyond the ends the curve goes on, flatter and flatter, so that no two outputs become one score.
        first, last = self.inputs[0], self.inputs[-1]
        inner = float(np.interp(mean, self.inputs, self.values))
        above, below = max(0.0, mean - last), max(0.0, first - mean)
        return float(inner + (100 - inner) * 0.5 * (1 - np.exp(-above)) - inner * 0.5 * (1 - np.exp(-below)))


@dataclass(frozen=True)
class Calibration:
    """What turns outputs into a critique.

    Attributes:
        name: told to clients with every critique.
        curves: by score name.
        thresholds: by kind name ("SEAM"): sigmoid of the kind's output from which it is named, in (0, 1).
        floors: by score name: sigmoid of its mean under which something is wrong, in (0, 1).
        measured: by kind name: strength from which what is measured at the border is named, in thresholds of
            `evidence`.
    """

    name: str
    curves: Mapping[str, Curve]
    thresholds: Mapping[str, float]
    floors: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)

    def severity(self, kind: str, presence: float) -> float:
        """From 0 to 1; 0.3 at the kind's threshold, linear to either side of it."""
        threshold = self.thresholds[kind]
        if presence < threshold:
            return AT_THRESHOLD * presence / threshold
        return AT_THRESHOLD + (1 - AT_THRESHOLD) * (presence - threshold) / (1 - threshold)

    def severity_of_low(self, score: str, share: float) -> float:
        """From 0 to 1 of what lowers a score; 0 from its floor on, 0.3 under it, rising as the score falls.

        Args:
            score: its name.
            share: sigmoid of its mean.
        """
        floor = self.floors.get(score, 0.0)
        if share >= floor:
            return 0.0
        return AT_THRESHOLD + (1 - AT_THRESHOLD) * (floor - share) / floor


def read_calibration(file: Path) -> Calibration:
    """Read the file.

    Raises:
        InvalidInput: it is not there, or not what `write_calibration` wrote.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        curves = {name: Curve(**each) for name, each in data["curves"].items()}
        return Calibration(
            str(data["name"]),
            curves,
            dict(data["thresholds"]),
            dict(data.get("floors", {})),
            dict(data.get("measured", {})),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file} is no calibration of the network critic: {error}") from error


def write_calibration(calibration: Calibration, file: Path) -> None:
    """Write the file."""
    file.write_text(json.dumps(asdict(calibration), indent=1) + "\n", encoding="utf-8")
