"""Compression blocks: steps that recur every eight pixels, inside against windows of the same photo.

Source: the idea of Wang, Sheikh and Bovik, "No-reference perceptual quality assessment of JPEG compressed
images" (2002): differences across block borders against differences within; here for every phase of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.evidence.calibration import BLOCKINESS_Z
from editcritic.server.critics.finding import Finding, figure, robust
from editcritic.v1 import critic_pb2 as pb

__all__ = ["blockiness", "grid_excess", "judge_blocks", "window_blockiness"]

Plane = NDArray[np.float32]
Array = NDArray[np.float64]

BLOCK = 8
SPREAD_FLOOR = 0.1
CLIP_LEVELS = 4.0
"""A block's step is small; beyond this it is the photograph's own edge."""


def grid_excess(luma: Plane) -> tuple[Plane, Plane]:
    """(h, w) twice: how much the difference to the left (and above) exceeds its two neighbours', clipped."""
    return _excess(luma), np.ascontiguousarray(_excess(np.ascontiguousarray(luma.T)).T)


def blockiness(excess: tuple[Plane, Plane], region: NDArray[np.bool_]) -> float:
    """Levels by which steps on the best-fitting grid exceed those off it, both directions together."""
    rows, columns = np.nonzero(region)
    return _phase_peak(excess[0][rows, columns], columns) + _phase_peak(excess[1][rows, columns], rows)


def judge_blocks(luma: Plane, inside: NDArray[np.bool_], usual: Array) -> Finding:
    """The finding for the inside, against the windows' figures."""
    measured = figure(
        "blockiness", blockiness(grid_excess(luma), inside), "levels", *robust(usual, SPREAD_FLOOR)
    )
    strength = max(0.0, measured.z_score) / BLOCKINESS_Z
    return Finding(pb.DEFECT_KIND_COMPRESSION_MISMATCH, strength, [measured], inside.astype(np.float32))


def window_blockiness(
    excess: tuple[Plane, Plane], outside: NDArray[np.bool_], windows: Sequence[tuple[slice, slice]]
) -> Array:
    """The same for windows of the outside."""
    found = []
    for rows, columns in windows:
        part = (excess[0][rows, columns], excess[1][rows, columns])
        found.append(blockiness(part, outside[rows, columns]))
    return np.array(found)


def _excess(luma: Plane) -> Plane:
    change = np.abs(np.diff(luma, axis=1, prepend=luma[:, :1]))
    out = np.zeros_like(change)
    out[:, 1:-1] = change[:, 1:-1] - 0.5 * (change[:, :-2] + change[:, 2:])
    return np.clip(out, -CLIP_LEVELS, CLIP_LEVELS)


def _phase_peak(values: Plane, positions: NDArray[np.intp]) -> float:
    if values.size < 4 * BLOCK:
        return 0.0
    phase = positions % BLOCK
    counts = np.maximum(np.bincount(phase, minlength=BLOCK), 1)
    means = np.bincount(phase, weights=values, minlength=BLOCK) / counts
    return float(means.max() - np.median(means))
