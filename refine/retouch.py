"""Repairs without diffusion: arrays in, arrays out, milliseconds. All leave the picture alone beyond the blend mask.

Source: colour is moved by a smooth membrane between border values, as in seamless cloning (Perez et al. 2003, Farbman
et al. 2009), here by normalised convolution (Knutsson & Westin 1993).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.masks import bounds

__all__ = ["blended_border", "matched_detail", "recoloured", "recomposited"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

_FINE = 1.5  # pixels: what is finer counts as detail
_NEAR = 2.0  # pixels on either side of the border that are compared
_PLAIN = 35  # percentile of local detail that counts as texture
_MAX_GAIN = 1.8
_MAX_GRAIN = 3.0  # levels


def recomposited(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """The picture with every pixel beyond the blend mask taken from the source again."""
    return np.where(blend[..., None] > 0, picture, source)


def recoloured(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """Colour and light of the whole inside shifted by what the border says, in CIELAB.

    The shift is a plane, fitted so that edges of the photograph that happen to lie on the border do not count.
    """
    border = _border(source, picture, blend)
    if border is None:
        return picture
    rows, columns = np.indices(border.ring.shape, np.float32) / border.ring.shape[0] - 0.5
    basis = np.stack([np.ones_like(rows), rows, columns], axis=-1)
    on_ring = border.ring > 0
    plane = np.stack([_robust_fit(basis[on_ring], each) for each in border.step[on_ring].T], axis=-1)
    return border.shifted(picture, basis @ plane, border.weight)


def blended_border(source: Pixels, picture: Pixels, blend: Array, width: int) -> Pixels:
    """The step at the border smoothed away over `width` pixels to the inside; deeper down nothing changes."""
    from scipy.ndimage import distance_transform_edt

    border = _border(source, picture, blend)
    if border is None:
        return picture
    field = _averaged(border.step, border.ring, 3 * _NEAR)
    depth = distance_transform_edt(border.weight > 0.9) / max(2, width)
    return border.shifted(picture, field, border.weight * np.exp(-(depth**2)).astype(np.float32))


def matched_detail(source: Pixels, picture: Pixels, blend: Array, seed: int) -> Pixels:
    """Fine detail of the inside scaled to the energy of its surroundings; what scaling cannot reach is added as grain.

    seed: of the grain.
    """
    from scipy.ndimage import gaussian_filter

    place = _surroundings(blend)
    before, now, weight = (part[place].astype(np.float32) for part in (source, picture, blend))
    inside, outside = weight > 0.9, weight == 0
    if not inside.any() or not outside.any():
        return picture
    fine_before, fine_now = (part - gaussian_filter(part, (_FINE, _FINE, 0)) for part in (before, now))
    wanted, present = _energy(fine_before, outside), _energy(fine_now, inside)
    gain = float(np.clip(wanted / max(present, 1e-3), 0.5, _MAX_GAIN))
    missing = min(_MAX_GRAIN, max(0.0, wanted**2 - (gain * present) ** 2) ** 0.5)
    grain = np.random.default_rng(seed).normal(0, missing, now.shape[:2]).astype(np.float32)[..., None]
    changed = now + weight[..., None] * ((gain - 1) * fine_now + grain)
    return _put_back(picture, changed, place, weight)


def _energy(detail: Array, where: NDArray[np.bool_]) -> float:
    """Standard deviation of the detail in the plainer half of the places: edges of things do not stand for texture."""
    local = _averaged(np.abs(detail), where.astype(np.float32), 3 * _FINE).mean(axis=-1)
    return float(1.25 * np.percentile(local[where], _PLAIN))


def _surroundings(blend: Array) -> tuple[slice, slice]:
    """Rows and columns of the mask with half of its extent around it."""
    left, top, right, bottom = bounds(np.asarray(blend, np.float32))
    margin = max(16, max(right - left, bottom - top) // 2)
    return slice(max(0, top - margin), bottom + margin), slice(max(0, left - margin), right + margin)


@dataclass(frozen=True, eq=False)
class _Border:
    """What the two sides of a mask's border say, for a crop. step: (h, w, 3) CIELAB, outside less inside, meant where
    ring: (h, w) is above 0."""

    place: tuple[slice, slice]
    weight: Array
    inside_lab: Array
    ring: Array
    step: Array

    def shifted(self, picture: Pixels, field: Array, share: Array) -> Pixels:
        """The picture with a share (h, w) of a field (h, w, 3) added in CIELAB."""
        from skimage.color import lab2rgb

        with warnings.catch_warnings():
            # Shifted colours may lie outside sRGB; they are cut off there, which is what is wanted.
            warnings.filterwarnings("ignore", message="Conversion from CIE-LAB", category=UserWarning)
            changed = lab2rgb(self.inside_lab + share[..., None] * field) * 255
        return _put_back(picture, changed, self.place, self.weight)


def _border(source: Pixels, picture: Pixels, blend: Array) -> _Border | None:
    """None when there is no inside or no outside to compare."""
    from skimage.color import rgb2lab

    place = _surroundings(blend)
    weight = blend[place].astype(np.float32)
    inside, outside = (weight > 0.9).astype(np.float32), (weight == 0).astype(np.float32)
    if not inside.any() or not outside.any():
        return None
    before, now = (rgb2lab(part[place]).astype(np.float32) for part in (source, picture))
    near = _NEAR + 0.5 * _rim(weight)
    ring = _spread(outside, near) * _spread(inside, near)
    step = _averaged(before, outside, near) - _averaged(now, inside, near)
    return _Border(place, weight, now, np.where(ring > 0.2 * ring.max(), ring, np.float32(0)), step)


def _rim(weight: Array) -> float:
    """Mean width in pixels of the soft rim of a blend mask (h, w): both sides of a border lie that far apart."""
    from scipy.ndimage import binary_erosion

    inside = weight > 0.9
    edge = inside & ~binary_erosion(inside)
    return float(((weight > 0) & ~inside).sum() / max(1, edge.sum()))


def _robust_fit(basis: Array, values: Array) -> Array:
    """Coefficients (k,) of basis (n, k) that explain values (n,), outliers weighted down (Huber 1964)."""
    weight = np.ones(len(values))
    fit: Array = np.zeros(basis.shape[1])
    for _ in range(8):
        scaled = basis * weight[:, None]
        fit = np.linalg.lstsq(scaled.T @ basis + 1e-3 * np.eye(len(fit)), scaled.T @ values, rcond=None)[0]
        away = np.abs(values - basis @ fit)
        weight = np.minimum(1.0, 0.7 * (np.median(away) + 1e-3) / np.maximum(away, 1e-6))
    return np.asarray(fit, np.float32)


def _spread(plane: Array, sigma: float) -> Array:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(plane, sigma), np.float32)


def _averaged(values: Array, weight: Array, sigma: float) -> Array:
    """Normalised convolution: the mean of (h, w, 3) near each pixel, over pixels with weight (h, w) alone."""
    total = np.stack([_spread(band * weight, sigma) for band in np.moveaxis(values, -1, 0)], axis=-1)
    return np.asarray(total / np.maximum(_spread(weight, sigma), 1e-6)[..., None], np.float32)


def _put_back(picture: Pixels, crop: Array, place: tuple[slice, slice], weight: Array) -> Pixels:
    result = picture.copy()
    new = np.clip(np.rint(crop), 0, 255).astype(np.uint8)
    result[place] = np.where(weight[..., None] > 0, new, picture[place])
    return result
