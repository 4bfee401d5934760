"""Learns what the faces critic takes for a face, from pictures that scikit-image carries: nothing is downloaded.

    python -m editcritic.server.training.face_likeness

Faces are the hundred of scikit-image's subset of Labelled Faces in the Wild; everything else are patches of its other
pictures. The outcome is the same on every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from skimage import data

from editcritic.server.critics.faces.likeness import SIDE, WEIGHTS, features, patch

__all__ = ["learn", "main"]

_FACES = 100
_OTHERS = (
    "brick", "grass", "gravel", "coffee", "chelsea", "coins", "page", "text", "rocket", "camera", "moon",
    "hubble_deep_field", "immunohistochemistry", "retina", "horse", "logo",
)  # fmt: skip
_PATCHES = 100
_SIDES_PX = (25, 120)
_LEAST_CONTRAST = 8.0
_SHRINKAGE = 0.3


def learn(seed: int = 0) -> tuple[NDArray[np.float64], float]:
    """Weights (1568,) and bias of a linear discriminant: 1 in the middle of the faces, -1 in that of the rest."""
    faces = np.stack([features(each) for each in _faces()])
    others = np.stack([features(each) for each in _others(np.random.default_rng(seed))])
    spread = 0.5 * np.cov(faces.T) + 0.5 * np.cov(others.T)
    spread += _SHRINKAGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    weights = np.linalg.solve(spread, faces.mean(0) - others.mean(0))
    apart = float(weights @ (faces.mean(0) - others.mean(0)))
    bias = -float(weights @ (faces.mean(0) + others.mean(0)))
    return 2 * weights / apart, bias / apart


def main(path: Path = WEIGHTS) -> None:
    """Learn, and write the weights."""
    weights, bias = learn()
    save_file({"weights": weights.astype(np.float32), "bias": np.array([bias], np.float32)}, path)


def _faces() -> Iterator[NDArray[np.float32]]:
    for face in data.lfw_subset()[:_FACES]:  # type: ignore[no-untyped-call]
        large = cv2.resize(255 * face.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        yield np.asarray(large, np.float32)
        yield np.ascontiguousarray(large[:, ::-1], np.float32)


def _others(rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    for name in _OTHERS:
        grey = _grey(getattr(data, name)())
        height, width = grey.shape
        for _ in range(_PATCHES):
            side = int(rng.integers(_SIDES_PX[0], min(_SIDES_PX[1], height, width)))
            cut = patch(grey, int(rng.integers(0, width - side)), int(rng.integers(0, height - side)), side)
            if cut.std() > _LEAST_CONTRAST:
                yield cut


def _grey(picture: NDArray[np.generic]) -> NDArray[np.float32]:
    values = np.asarray(picture, np.float32) * (255 if picture.dtype == np.bool_ else 1)
    return values[..., :3].mean(-1) if values.ndim == 3 else values


if __name__ == "__main__":
    main()
