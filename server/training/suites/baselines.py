"""What a critic has to beat: scores that need no network, on the same cases.

`niqe` compares statistics of the inside with those of untouched photographs (Mittal et al. 2013), written here from
the paper because the packages that carry it do not run on current NumPy; `ring` is the plain distance between inside
and surroundings, and `reconstruction` the error of the inside redrawn from its own blurred border: the less the
border explains, the worse. None of them looks at masks as a critic does, and none was tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma

from editcritic.server.critics.network.view import EditView
from editcritic.server.training.defects.content import pull_push

__all__ = ["Baseline", "make_baselines"]

Pixels = NDArray[np.uint8]
Baseline = Callable[[EditView, Pixels], float]
"""(view of the edit, candidate (H, W, 3) uint8) -> score, higher is better."""

_SHAPES = np.arange(0.2, 10.0, 0.01)
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))
_BLOCK = 32


def make_baselines(photographs: Sequence[Pixels]) -> Mapping[str, Baseline]:
    """Baselines by name; `photographs` (each (H, W, 3) uint8, untouched) say what is natural for `niqe`."""
    features = np.concatenate([_block_features(_grey(photo)) for photo in photographs])
    mean, covariance = features.mean(axis=0), np.cov(features, rowvar=False)

    def niqe(view: EditView, candidate: Pixels) -> float:
        own = _block_features(_grey(view.cut(candidate)), view.alpha)
        if len(own) < 2:
            return float("nan")
        spread = np.linalg.pinv((covariance + np.cov(own, rowvar=False)) / 2)
        away = own.mean(axis=0) - mean
        return -float(np.sqrt(max(away @ spread @ away, 0.0)))

    return {"niqe": niqe, "reconstruction": _reconstruction, "ring": _ring}


def _reconstruction(view: EditView, candidate: Pixels) -> float:
    window = view.cut(candidate)
    redrawn = pull_push(window, view.alpha < 0.02)
    inside = view.alpha >= 0.5
    return -float(np.abs(window.astype(np.float32) - redrawn)[inside].mean())


def _ring(view: EditView, candidate: Pixels) -> float:
    lab = cv2.cvtColor(view.cut(candidate), cv2.COLOR_RGB2LAB).astype(np.float32)
    inside, ring = view.regions[1] > 0, view.regions[2] > 0
    if not inside.any() or not ring.any():
        return float("nan")
    return -float(np.linalg.norm(lab[inside].mean(axis=0) - lab[ring].mean(axis=0)))


def _grey(image: Pixels) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)


def _block_features(
    grey: NDArray[np.float32], alpha: NDArray[np.float32] | None = None
) -> NDArray[np.floating]:
    """(n, 36) features of blocks of 32 px at two scales; only blocks mostly inside, when alpha is given."""
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    scales = [grey, np.asarray(half, np.float32)]
    parts = []
    for scale, plane in enumerate(scales):
        side = _BLOCK >> scale
        normal = _normalised(plane)
        parts.append([_features(block) for block in _blocks(normal, side)])
    kept = np.ones(len(parts[0]), bool)
    if alpha is not None:
        kept = np.array([block.mean() > 0.5 for block in _blocks(alpha, _BLOCK)])
    count = min(len(parts[0]), len(parts[1]))
    return np.concatenate([np.array(part)[:count] for part in parts], axis=1)[kept[:count]]


def _blocks(plane: NDArray[np.float32], side: int) -> list[NDArray[np.float32]]:
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    return [
        plane[side * row : side * (row + 1), side * column : side * (column + 1)]
        for row in range(rows)
        for column in range(columns)
    ]


def _normalised(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = cv2.GaussianBlur(plane, (7, 7), 7 / 6)
    spread = np.sqrt(np.abs(cv2.GaussianBlur(plane * plane, (7, 7), 7 / 6) - mean * mean))
    return np.asarray((plane - mean) / (spread + 1), np.float32)


def _features(block: NDArray[np.float32]) -> list[float]:
    found = list(_gaussian(block))
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        found += _asymmetric(block * np.roll(block, shift, axis=(0, 1)))
    return found


def _gaussian(values: NDArray[np.float32]) -> tuple[float, float]:
    power = float(np.square(values).mean()) + 1e-9
    ratio = float(np.abs(values).mean()) ** 2 / power
    return float(_SHAPES[np.abs(_RATIOS - ratio).argmin()]), power


def _asymmetric(values: NDArray[np.float32]) -> list[float]:
    left, right = values[values < 0], values[values > 0]
    low = float(np.sqrt(np.square(left).mean())) if left.size else 1e-3
    high = float(np.sqrt(np.square(right).mean())) if right.size else 1e-3
    balance = low / max(high, 1e-6)
    ratio = float(np.abs(values).mean()) ** 2 / (float(np.square(values).mean()) + 1e-9)
    wanted = ratio * (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    shape = float(_SHAPES[np.abs(_RATIOS - wanted).argmin()])
    mean = (high - low) * float(gamma(2 / shape) / np.sqrt(gamma(1 / shape) * gamma(3 / shape)))
    return [shape, mean, low**2, high**2]
