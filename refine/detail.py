"""Sharpness and grain of the inside brought to what the photograph has at places like it.

Each band of detail is compared with the next coarser one that a fault of sharpness leaves alone: a smooth wall has
little of either, and is not blurred for that. What the same photograph does elsewhere says how much fine detail goes
with how much coarse detail (natural image statistics: Field 1987; tiles compared as in reference-free quality
measures), and how far that usually strays; only what goes beyond is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.crop import Crop, cropped, spread

__all__ = ["matched_detail"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_SCALES = (0.7, 1.4, 2.8, 5.6)  # pixels; the last band is the one that is compared with
_TILE = 12
_FLOOR = 0.15  # squared levels: rounding alone makes so much
_ALIKE = 0.8  # logarithm of coarse detail by which tiles count as alike
_GAINS = (0.25, 3.0)
_MAX_GRAIN = 3.0  # levels
_EDGE = 5  # pixels: side of the window whose range a pixel may leave by the usual detail alone
_RARELY = 0.9
_SPARSE = 8  # tiles outside under which there is nothing to learn from


def matched_detail(source: Pixels, picture: Pixels, blend: Array, seed: int) -> Pixels:
    """Bands of detail of the inside scaled to what belongs to its coarse structure; the rest is added as grain.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]; beyond it the source bit for bit. seed: of the grain.
    """
    crop = cropped(source, picture, blend)
    inside, outside = _apart(crop)
    known = _tile_energies(_bands(crop.before.mean(axis=-1)), outside)
    if known.shape[1] < _SPARSE or not inside.any():
        return crop.unchanged()
    bands = _bands(crop.now)
    new = crop.now.copy()
    grey = [band.mean(axis=-1) for band in bands]
    for band, missing in zip(bands, _missing(known, grey, inside), strict=False):
        new += (float(np.clip(np.exp(missing), *_GAINS)) - 1) * band
    new = _without_halos(new, crop.now, _usual_detail(crop.before, outside))
    shown = np.where(crop.weight[..., None] > 0, np.clip(new, 0, 255), crop.now)
    return crop.changed(new + _grain(known, shown.mean(axis=-1), inside, seed)[..., None])


def _without_halos(new: Array, now: Array, usual: float) -> Array:
    """Detail may rise out of what lies around it by as much as the photograph's own, not by what a strong edge gains.

    Amplified bands overshoot at edges: an outline gets a dark and a bright line along it that nothing had.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    around = (_EDGE, _EDGE, 1)
    return np.clip(new, minimum_filter(now, around) - usual, maximum_filter(now, around) + usual)


def _usual_detail(before: Array, outside: Mask) -> float:
    """Levels of the finest detail outside that is rarely exceeded there."""
    return float(np.quantile(np.abs(_bands(before.mean(axis=-1))[0][outside]), _RARELY))


def _apart(crop: Crop) -> tuple[Mask, Mask]:
    """Inside and outside without what lies so near the border that bands mix both."""
    from scipy.ndimage import binary_erosion

    inner = binary_erosion(crop.inside, iterations=2, border_value=1)
    outer = binary_erosion(crop.outside, iterations=2, border_value=1)
    return (inner if inner.any() else crop.inside), outer


def _bands(plane: Array) -> list[Array]:
    """Detail from fine to coarse, of (h, w) or (h, w, c)."""
    levels = [plane, *(spread(plane, scale) for scale in _SCALES)]
    return [fine - coarse for fine, coarse in pairwise(levels)]


def _tile_energies(bands: Sequence[Array], where: Mask) -> Array:
    """Logarithm of the detail in each tile that lies at least half in `where`: (bands, tiles)."""
    rows, columns = (length // _TILE for length in where.shape)

    def totals(plane: Array) -> Array:
        cut = plane[: rows * _TILE, : columns * _TILE]
        return np.asarray(cut.reshape(rows, _TILE, columns, _TILE).sum(axis=(1, 3)))

    pixels = totals(where.astype(np.float32))
    full = pixels >= _TILE * _TILE / 2
    energies = [totals(band**2 * where)[full] / pixels[full] for band in bands]
    return np.asarray(0.5 * np.log(np.stack(energies) + _FLOOR))


def _missing(known: Array, bands: Sequence[Array], inside: Mask) -> list[float]:
    """For each finer band, the logarithm of the gain that the inside lacks; 0 where that is within the usual."""
    present = _tile_energies(bands, inside)
    if present.shape[1] == 0:
        return []
    return [_lack(known[band], known[-1], present[band], present[-1]) for band in range(len(_SCALES) - 1)]


def _lack(known: Array, known_coarse: Array, present: Array, present_coarse: Array) -> float:
    """How much more of a band the photograph has at the same coarse detail, less what chance may do."""
    middle = present_coarse.mean()
    basis = np.stack([np.ones_like(known_coarse), known_coarse - middle], axis=-1)
    alike = np.exp(-0.5 * ((known_coarse - middle) / _ALIKE) ** 2) + 0.05
    prior, weight, fit = np.diag([0.0, 0.5]), alike, np.zeros(2)
    for _ in range(4):
        scaled = basis * weight[:, None]
        fit = np.linalg.lstsq(scaled.T @ basis + prior, scaled.T @ known + prior @ [0.0, 0.8], rcond=None)[0]
        away = np.abs(known - basis @ fit)
        weight = alike * np.minimum(1.0, 1.5 * np.median(away) / np.maximum(away, 1e-3))
    lack = float(np.median(fit[0] + fit[1] * (present_coarse - middle) - present))
    chance = np.average((known - basis @ fit) ** 2, weights=weight) / max(1.0, len(present) / 4)
    return lack * max(0.0, 1 - float(chance) / max(lack**2, 1e-6))


def _grain(known: Array, grey: Array, inside: Mask, seed: int) -> Array:
    """Grain (h, w) for what scaling could not reach in the finest band, stronger where there is texture."""
    bands = _bands(grey)
    lacks = _missing(known, bands, inside)
    if not lacks or lacks[0] < 0.1:
        return np.zeros(grey.shape, np.float32)
    noise = np.random.default_rng(seed).standard_normal(grey.shape, np.float32)
    fine = noise - spread(noise, _SCALES[0])
    local = np.sqrt(spread(bands[0] ** 2, 4.0) + 0.2)
    amount = np.minimum(local * np.sqrt(np.exp(2 * min(lacks[0], 3.0)) - 1), _MAX_GRAIN)
    return np.asarray(amount * fine / fine.std(), np.float32)
