"""Grain, compression blocks and bands that the inside has and the photograph has not, taken away."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.crop import Crop, cropped, spread

__all__ = ["debanded", "deblocked", "denoised"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

_BLOCK = 8
_FINE = 0.8  # pixels: what is finer is looked at for grain
_FINE_SHARE = 0.62  # of white grain's deviation that is finer
_CALM = 20  # percentile of local grain that is no texture
_THRESHOLD = 2.7  # deviations under which a coefficient is taken for grain
_QUALITIES = (8, 11, 14, 18, 22, 26, 30, 35, 40, 45, 55)
_USUAL_QUALITY = 26
_DIP = 0.9
_SHIFTS = [(row, column) for row in range(0, _BLOCK, 2) for column in range(1, _BLOCK, 2)]
_LEAST_STEP = 3.0  # levels between bands that are seen
_DITHER = 0.6  # levels

# Opposed colours, orthonormal: grain of brightness and of colour are told apart.
_OPPONENT = np.array([[3**-0.5] * 3, [2**-0.5, 0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]], np.float32)


def denoised(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """Grain beyond the photograph's own taken out, by thresholds on overlapping 8x8 cosine transforms.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]; beyond it the source bit for bit. Source: Coifman &
    Donoho 1995 (translation invariance); Yu & Sapiro 2011 (DCT image denoising).
    """
    crop = cropped(source, picture, blend)
    if not crop.has_both_sides:
        return crop.unchanged()
    present, usual = _grain(crop.now, crop.inside), _grain(crop.before, crop.outside)
    if present <= 1.05 * usual:
        return crop.unchanged()
    near = cropped(source, picture, blend, margin=_BLOCK)
    return near.changed(_thresholded(near.now, _THRESHOLD * (present**2 - usual**2) ** 0.5))


def deblocked(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """Blocks of a JPEG compression dissolved, by compressing again on grids that lie elsewhere, and averaging.

    Arguments as in `denoised`. Source: Nosratinia 2001, re-application of JPEG; the quality is the one at which the
    inside already lies on the steps of its own grid, or a middling one where none is told.
    """
    crop = cropped(source, picture, blend, margin=2 * _BLOCK)
    if not crop.inside.any():
        return crop.unchanged()
    quality = _quality(crop, _grid(crop))
    levels = crop.now.astype(np.uint8)
    return crop.changed(np.mean([_compressed(levels, quality, shift) for shift in _SHIFTS], axis=0))


def debanded(source: Pixels, picture: Pixels, blend: Array, seed: int) -> Pixels:
    """Steps between tones smoothed within the width of a step, and dithered. seed: of the dither.

    Other arguments as in `denoised`. Source: decontouring by constrained smoothing (Daly & Feng 2004).
    """
    crop = cropped(source, picture, blend)
    step = _tone_step(crop.now[crop.inside]) if crop.inside.any() else 0.0
    if step < _LEAST_STEP:
        return crop.unchanged()
    smooth, within = crop.now, crop.weight[..., None] > 0
    for scale in (6.0, 3.0, 1.5):
        near = np.clip(spread(smooth, scale), crop.now - step / 2, crop.now + step / 2)
        smooth = np.where(within, near, crop.now)
    noise = np.random.default_rng(seed).normal(0, _DITHER, smooth.shape[:2])
    return crop.changed(smooth + noise[..., None])


def _grain(levels: Array, where: Mask) -> float:
    """Standard deviation of white grain, in levels, from the calmest places of (h, w, 3)."""
    energy = ((levels - spread(levels, _FINE)) ** 2).mean(axis=-1)
    share = where.astype(np.float32)
    local = np.sqrt(spread(energy * share, 3.0) / np.maximum(spread(share, 3.0), 1e-3))
    return float(np.percentile(local[where], _CALM)) / _FINE_SHARE


def _thresholded(levels: Array, threshold: float) -> Array:
    """(h, w, 3) with small coefficients of every 8x8 block dropped, averaged over grids two pixels apart."""
    from scipy.fft import dctn, idctn

    height, width = levels.shape[:2]
    rows, columns = -(-(height + 2 * _BLOCK) // _BLOCK), -(-(width + 2 * _BLOCK) // _BLOCK)
    margin = [(_BLOCK, rows * _BLOCK - height - _BLOCK), (_BLOCK, columns * _BLOCK - width - _BLOCK), (0, 0)]
    whole = np.pad(levels.astype(np.float32) @ _OPPONENT.T, margin, mode="symmetric")
    total, shifts = np.zeros_like(whole), [(r, c) for r in range(0, _BLOCK, 2) for c in range(0, _BLOCK, 2)]
    for shift in shifts:
        moved = np.roll(whole, (-shift[0], -shift[1]), (0, 1)).reshape(rows, _BLOCK, columns, _BLOCK, 3)
        parts = dctn(moved, axes=(1, 3), norm="ortho")
        kept = np.abs(parts) > threshold
        kept[:, 0, :, 0] = True
        total += np.roll(idctn(parts * kept, axes=(1, 3), norm="ortho").reshape(whole.shape), shift, (0, 1))
    mean = total / len(shifts) @ _OPPONENT
    return np.asarray(mean[_BLOCK : _BLOCK + height, _BLOCK : _BLOCK + width])


def _compressed(levels: Pixels, quality: int, shift: tuple[int, int]) -> Array:
    """(h, w, 3) after JPEG of that quality on a grid that starts at `shift`."""
    height, width = levels.shape[:2]
    padded = np.pad(levels, ((_BLOCK, _BLOCK), (_BLOCK, _BLOCK), (0, 0)), mode="symmetric")
    file = io.BytesIO()
    Image.fromarray(padded[shift[0] :, shift[1] :]).save(file, "JPEG", quality=quality)
    back = np.asarray(Image.open(file), np.float32)
    top, left = _BLOCK - shift[0], _BLOCK - shift[1]
    return back[top : top + height, left : left + width]


def _grid(crop: Crop) -> tuple[int, int]:
    """Row and column, 0 to 7, at which the inside steps most often."""
    grey = crop.now.mean(axis=-1)
    starts = []
    for turned, inside in ((grey, crop.inside), (grey.T, crop.inside.T)):
        step = np.abs(np.diff(turned, axis=0, prepend=turned[:1]))
        beyond = np.clip(step - (np.roll(step, 1, 0) + np.roll(step, -1, 0)) / 2, -20, 20) * inside
        pixels = [max(1, int(inside[start::_BLOCK].sum())) for start in range(_BLOCK)]
        starts.append(int(np.argmax([beyond[s::_BLOCK].sum() / pixels[s] for s in range(_BLOCK)])))
    return starts[0], starts[1]


def _quality(crop: Crop, grid: tuple[int, int]) -> int:
    """The quality at which compressing on that grid changes clearly less than at its neighbours."""
    levels = crop.now.astype(np.uint8)
    changes = np.array(
        [np.abs(_compressed(levels, each, grid) - crop.now)[crop.inside].mean() for each in _QUALITIES]
    )
    dips = (changes[1:-1] + 0.3) / ((changes[:-2] + changes[2:]) / 2 + 0.3)
    return _QUALITIES[1 + int(np.argmin(dips))] if dips.min() < _DIP else _USUAL_QUALITY


def _tone_step(levels: Array) -> float:
    """Usual distance in levels between tones that are in use, of (n, 3)."""
    distances = []
    for band in levels.T:
        count = np.bincount(band.astype(np.int64), minlength=256)
        used = np.flatnonzero(count > 0.02 * len(levels))
        if len(used) > 1:
            distances.append(float(np.median(np.diff(used))))
    return float(np.median(distances)) if distances else 0.0
