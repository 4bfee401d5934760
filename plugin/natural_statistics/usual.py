"""How much a region of a photograph usually differs from what stands round it.

NIQE measures a picture's distance from a multivariate Gaussian of photographs (Mittal et al., 2013). Photographs differ
more from each other than most faults differ from photographs, so what is measured here is inside less ring, by the
covariance that untouched photographs leave. A small region's figures are noisier, so how far untouched regions lie is
told by their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.natural_statistics.seeing import Seen

__all__ = ["Usual", "learn"]

Array = NDArray[np.float64]
_SHRINKAGE = 0.05


@dataclass(frozen=True, eq=False)
class Usual:
    """What was learned, of F figures.

    Attributes:
        mean: (F,), difference of untouched regions from their rings.
        whitening: (F, F), by which what differs from that is multiplied.
        typical: (2,), constant and slope of the logarithm of an untouched region's distance by that of its pixels.
    """

    mean: Array
    whitening: Array
    typical: Array

    def distance(self, seen: Seen) -> float:
        """Root mean square of the whitened difference: mostly under 1.5 when untouched, without an upper end."""
        return float(np.sqrt((((seen.difference - self.mean) @ self.whitening) ** 2).mean()))

    def score(self, seen: Seen) -> float:
        """100 t^2 / (t^2 + d^2) for a distance d where untouched regions of that size typically have t.

        No share of untouched regions: what engines paint lies farther off than nearly all of them, and shares would put
        good and bad of it alike at 0.
        """
        typical = float(np.exp(self.typical @ [1.0, np.log(seen.inside_px)]))
        return 100 / (1 + (self.distance(seen) / typical) ** 2)

    def save(self, path: Path) -> None:
        """Write it, in half of the precision."""
        arrays = {name: np.float32(value) for name, value in asdict(self).items()}
        np.savez_compressed(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Usual:
        """Read what `save` wrote."""
        with np.load(path) as kept:
            return cls(**{name: kept[name].astype(np.float64) for name in kept})


def learn(seen: Sequence[Seen], kept_back: Sequence[Seen]) -> Usual:
    """Learn from untouched regions; `kept_back`, of other photographs, tell how far untouched regions lie."""
    differences = np.stack([each.difference for each in seen])
    covariance = np.cov(differences.T)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(np.diag(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(shrunk))
    found = Usual(differences.mean(axis=0), whitening, np.zeros(2))
    return replace(found, typical=_typical_distance(found, kept_back))


def _typical_distance(usual: Usual, seen: Sequence[Seen]) -> Array:
    far = np.log([usual.distance(each) for each in seen])
    sizes = np.column_stack([np.ones(len(seen)), np.log([each.inside_px for each in seen])])
    return np.asarray(np.linalg.lstsq(sizes, far, rcond=None)[0])
