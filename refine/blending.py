"""The step at a mask's border smoothed away: over bands of detail, or by a membrane through the whole mask.

Both are one-sided, as the pixels beyond the border are the source's own: the inside gives way to the outside.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.border import Steps, border_steps
from editcritic.refine.crop import Crop, cropped, enlarged, from_lab, spread, to_lab

__all__ = ["gradient_blended", "multiband_blended"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

_BANDS = (5.0, 10.0, 20.0)  # pixels: scales of the difference that are smoothed apart
_REACH = 2.0  # a band fades over as many times its scale
_CELL = 4  # pixels in which bands are computed: they are smooth
_CELLS = 12_000  # unknowns of a membrane; it is smooth, so a larger mask is solved on a coarser grid
_HOLD = 1.0  # how firmly a border whose two sides agree holds the membrane
_WINDOW = 8.0  # columns over which the two sides are compared


def multiband_blended(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """The difference between the two sides taken back near the border, coarse bands farther inwards than fine ones.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]; beyond it the source bit for bit. Deep inside nothing
    changes. Source: Burt & Adelson 1983, one-sided, with normalised convolution for the bands of each side.
    """
    from scipy.ndimage import distance_transform_edt

    crop = cropped(source, picture, blend)
    if not crop.has_both_sides:
        return crop.unchanged()
    now, depth = to_lab(crop.now), distance_transform_edt(crop.weight > 0.5)
    outside, inside = _cells(to_lab(crop.before), crop.outside), _cells(now, crop.inside)
    parts = [enlarged(_difference(outside, inside, scale / _CELL), _CELL, depth.shape) for scale in _BANDS]
    finer = [near - far for near, far in pairwise(parts)]
    total = np.zeros_like(now)
    for band, scale in zip([*finer, parts[-1]], _BANDS, strict=True):
        total += band * np.exp(-((depth / (_REACH * scale)) ** 2)).astype(np.float32)[..., None]
    return crop.changed(from_lab(now + total))


def _cells(values: Array, side: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Sums of values (h, w, 3) over one side in cells of a few pixels, and how much of each cell is of that side."""
    margin = [(0, -length % _CELL) for length in side.shape]
    share = np.pad(side.astype(np.float32), margin)
    total = np.pad(values * side[..., None], [*margin, (0, 0)])
    rows, columns = (length // _CELL for length in share.shape)
    size = (rows, _CELL, columns, _CELL)
    return total.reshape(*size, -1).mean(axis=(1, 3)), share.reshape(size).mean(axis=(1, 3))


def _difference(outside: tuple[Array, Array], inside: tuple[Array, Array], scale: float) -> Array:
    """Outside less inside, each averaged over its own pixels (Knutsson & Westin 1993); 0 where one is far away."""
    means, seen = [], []
    for total, share in (outside, inside):
        seen.append(spread(share, scale)[..., None])
        means.append(spread(total, scale) / (seen[-1] + 1e-3))
    return np.asarray((means[0] - means[1]) * np.minimum(1, 20 * np.minimum(*seen)), np.float32)


def gradient_blended(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """Colour moved by a membrane over the whole mask that the border holds, in CIELAB; the inside keeps its gradients.

    Arguments as in `multiband_blended`. Where what runs along the border differs between its two sides, the border
    does not hold the membrane: there it would bleed colour inwards. Source: seamless cloning (Perez et al. 2003) as a
    screened Poisson equation (Bhat et al. 2008).
    """
    crop = cropped(source, picture, blend)
    now = to_lab(crop.now)
    before = to_lab(crop.before)
    steps = border_steps(crop, before, now)
    if steps is None:
        return crop.unchanged()
    return crop.changed(from_lab(now + _membrane(crop, steps, _agreement(steps))))


def _agreement(steps: Steps) -> Array:
    """How steady the step is along the border, (n,) in [0, 1]: its square against its variance in a window."""
    from scipy.ndimage import gaussian_filter1d

    weight = np.maximum(gaussian_filter1d(steps.weight, _WINDOW), 1e-6)
    mean, square = (
        gaussian_filter1d(steps.weight[:, None] * steps.step**power, _WINDOW, axis=0) / weight[:, None]
        for power in (1, 2)
    )
    unsteady = (square - mean**2).sum(axis=1)
    return np.asarray(np.where(steps.weight > 0, 1 / (1 + unsteady / ((mean**2).sum(axis=1) + 1)), 0))


def _membrane(crop: Crop, steps: Steps, agreement: Array) -> Array:
    """The smoothest field (h, w, c) that comes near the steps where they agree."""
    factor = max(1, int(np.ceil(((crop.weight > 0).sum() / _CELLS) ** 0.5)))
    size = tuple(-(-length // factor) for length in crop.weight.shape)
    inside = np.pad(
        crop.weight > 0, [(0, s * factor - n) for s, n in zip(size, crop.weight.shape, strict=True)]
    )
    coarse = inside.reshape(size[0], factor, size[1], factor).any(axis=(1, 3))
    held, wanted = np.zeros(size), np.zeros((*size, steps.step.shape[1]))
    cell = tuple(np.minimum(steps.place.T // factor, np.array(size)[:, None] - 1).astype(int))
    np.add.at(held, cell, agreement)
    np.add.at(wanted, cell, agreement[:, None] * steps.step)
    field = _solved(coarse | (held > 0), _HOLD * held, _HOLD * wanted)
    return enlarged(field, factor, crop.weight.shape)


def _solved(domain: NDArray[np.bool_], held: Array, wanted: Array) -> Array:
    """Minimise the squared gradient plus held * field^2 - 2 wanted * field over a domain (h, w); 0 beyond it."""
    from scipy.sparse import coo_matrix, diags
    from scipy.sparse.linalg import splu

    number = np.full(domain.shape, -1)
    number[domain] = np.arange(domain.sum())
    pairs = [
        np.stack([one[both], other[both]])
        for one, other in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1]))
        for both in [(one >= 0) & (other >= 0)]
    ]
    one, other = np.concatenate(pairs, axis=1)
    links = coo_matrix((np.ones(len(one)), (one, other)), (domain.sum(),) * 2)
    links = links + links.T
    matrix = diags(np.asarray(links.sum(axis=1))[:, 0] + held[domain] + 1e-6) - links
    field = np.zeros((*domain.shape, wanted.shape[-1]))
    field[domain] = splu(matrix.tocsc()).solve(wanted[domain])
    return field
