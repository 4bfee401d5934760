"""What a preview promises: forecasts of the finished candidate's scores, for engines whose previews were learned from.

The network judges a preview as a picture, and an early one is a blurry mean. What it saw (embedding, means, variances,
kinds) still tells much of what the engine will make of it. One ridge regression (Hoerl and Kennard 1970) for each
score reads that at some shares of the steps; between two shares their readings are interpolated, and beyond the last
they move on to what the network says of a finished picture. `editcritic.server.training.forecast` fits them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from editcritic.server.critics.network.model import EditOutput
from editcritic.v1.errors import InvalidInput

__all__ = ["FORECAST", "PreviewReaders", "load_readers", "preview_features", "save_readers"]

FORECAST = ("naturalness", "harmony")
"""Scores that are forecast, in the order of the columns."""
_PARTS = ("shares", "centre", "scale", "weights", "bias", "residual")
_ROUNDING = 1e-6
_FARTHEST = 5.0
"""Features count for at most so many standard deviations: a preview unlike all that were seen must not run away."""


@dataclass(frozen=True, eq=False)
class PreviewReaders:
    """Linear readers of one engine's previews; R shares of the steps, D features, S scores.

    Attributes:
        shares: (R,) rising, in (0, 1).
        centre, scale: (R, D) mean and standard deviation of the features.
        weights: (R, D, S) points for each standard deviation.
        bias: (R, S) points.
        residual: (R, S + 1) points: root mean square by which finished candidates of one edit differ from their
            forecasts, and in the last column from the preview's own prompt alignment.
    """

    shares: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    residual: NDArray[np.float64]

    def covers(self, share: float) -> bool:
        """Whether a preview at this share of the steps can be read; earlier ones cannot."""
        return bool(share >= self.shares[0] - _ROUNDING)

    def forecast(
        self, features: NDArray[np.float64], share: float, present: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Scores of the finished candidate.

        Args:
            features: (D,); see `preview_features`.
            share: of the steps done, one that is covered.
            present: (S + 1, 2) value and standard deviation of each score as the preview itself has it, prompt
                alignment last.

        Returns:
            (S + 1, 2) the same of the finished candidate; the value of prompt alignment stays.
        """
        nodes = np.append(self.shares, 1.0)
        above = max(1, min(int(np.searchsorted(nodes, share)), len(self.shares)))
        weight = float(np.clip((share - nodes[above - 1]) / (nodes[above] - nodes[above - 1]), 0.0, 1.0))
        after = present if above == len(self.shares) else self._read(features, above, present)
        before = self._read(features, above - 1, present)
        return np.asarray((1 - weight) * before + weight * after, np.float64)

    def _read(
        self, features: NDArray[np.float64], place: int, present: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        seen = np.clip((features - self.centre[place]) / self.scale[place], -_FARTHEST, _FARTHEST)
        read = np.clip(seen @ self.weights[place] + self.bias[place], 0.0, 100.0)
        return np.stack([np.append(read, present[-1, 0]), self.residual[place]], 1)


def preview_features(output: EditOutput) -> NDArray[np.float64]:
    """(D,) what the network made of one preview: means, log-variances, kinds, embedding."""
    parts = [output.mean, output.log_variance, output.kinds, output.embedding]
    return np.asarray(torch.cat(parts, 1)[0].double().cpu().numpy(), np.float64)


def save_readers(readers: Mapping[str, PreviewReaders], file: Path) -> None:
    """Write readers of engines, by name; all but the shares in float16."""
    tensors = {
        f"{place}.{part}": getattr(each, part).astype(np.float32 if part == "shares" else np.float16)
        for place, each in enumerate(readers.values())
        for part in _PARTS
    }
    save_file(tensors, file, metadata={"engines": json.dumps(list(readers))})


def load_readers(file: Path) -> dict[str, PreviewReaders]:
    """Readers by engine; none when there is no such file.

    Raises:
        InvalidInput: the file is broken, or of something else.
    """
    if not file.exists():
        return {}
    try:
        with safe_open(file, "np") as opened:
            return {
                engine: PreviewReaders(
                    *[np.asarray(opened.get_tensor(f"{place}.{part}"), np.float64) for part in _PARTS]
                )
                for place, engine in enumerate(json.loads(opened.metadata()["engines"]))
            }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{file} holds no readers of previews: {error}") from error
