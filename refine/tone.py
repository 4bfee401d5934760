"""Colour and light of the inside brought to what the border says, by a smooth field over the whole mask.

Source: colour transfer by statistics (Reinhard et al. 2001), here of the two sides of the border; an illumination
field of low order in linear light, as in photometric mosaicking. A field is fitted by ridge regression whose noise is
what the steps differ by among themselves, so that a border that says nothing changes nothing (empirical Bayes), and
edges of things that happen to lie on the border are weighted down (Huber 1964).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.border import Steps, border_steps
from editcritic.refine.crop import Crop, cropped, from_lab, to_lab

__all__ = ["recoloured", "relit"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

_LAB_PRIOR = (
    10.0,
    3.0,
)  # CIELAB units that a shift, and its slope from the middle to the border, usually have
_LIGHT_PRIOR = (0.5, 0.3)  # the same for the logarithm of linear light
_DARKEST = 0.004  # linear light under which ratios are noise
_MAX_LOG = 1.2  # of the ratio by which light may change
_INDEPENDENT = 7  # columns of the strip that tell the same: steps are averaged over as many


def recoloured(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """Colour and brightness of the whole inside shifted by what the border says, in CIELAB.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]; beyond it the source bit for bit.
    """
    crop = cropped(source, picture, blend)
    now = to_lab(crop.now)
    steps = border_steps(crop, to_lab(crop.before), now)
    if steps is None:
        return crop.unchanged()
    return crop.changed(from_lab(now + _field(crop, steps, _LAB_PRIOR)))


def relit(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """Light of the inside matched to the border's: a plane of ratios for each channel, in linear light.

    Arguments as in `recoloured`. For exposure, and for light that falls from another side.
    """
    crop = cropped(source, picture, blend)
    steps = border_steps(crop, _log_light(crop.before), _log_light(crop.now))
    if steps is None:
        return crop.unchanged()
    ratio = np.exp(np.clip(_field(crop, steps, _LIGHT_PRIOR), -_MAX_LOG, _MAX_LOG))
    return crop.changed(_from_linear(_linear(crop.now) * ratio))


def _field(crop: Crop, steps: Steps, prior: tuple[float, float]) -> Array:
    """The plane through the steps, (h, w, c)."""
    corner, far = (edge(np.argwhere(crop.inside), axis=0) for edge in (np.min, np.max))
    middle, half = (corner + far) / 2, np.maximum((far - corner) / 2, 4)
    known = steps.weight > 0
    places = np.moveaxis(np.indices(crop.weight.shape, np.float32), 0, -1)
    basis, everywhere = (_basis((each - middle) / half) for each in (steps.place[known], places))
    scales = np.array([prior[0], prior[1], prior[1]])
    fits = [_ridge(basis, each, steps.weight[known], scales) for each in steps.step[known].T]
    return np.asarray(everywhere @ np.stack(fits, axis=-1), np.float32)


def _basis(place: Array) -> Array:
    near = np.clip(place, -1.3, 1.3)  # a plane is not followed far beyond the border that it was read from
    return np.concatenate([np.ones_like(near[..., :1]), near], axis=-1)


def _ridge(basis: Array, values: Array, weight: Array, scales: Array) -> Array:
    """Coefficients (k,) of basis (n, k) for values (n,); scales: (k,), what coefficients usually have."""
    share, fit = weight / weight.max(), np.zeros(basis.shape[1])
    fit[0] = np.average(values, weights=weight)
    trust = np.ones(len(values))
    for _ in range(10):
        each = share * trust
        noise = max(float((each * (values - basis @ fit) ** 2).sum() / each.sum()), 1e-4)
        told = max(each.sum() / _INDEPENDENT, 1.0) / noise / each.sum()
        normal = (basis * each[:, None]).T @ basis * told + np.diag(1 / scales**2)
        fit = np.linalg.solve(normal, (basis * each[:, None]).T @ values * told)
        away = np.abs(values - basis @ fit)
        trust = np.minimum(1.0, 0.7 * (np.median(away) + 0.005 * scales[0]) / np.maximum(away, 1e-6))
    return np.asarray(fit)


def _linear(levels: Array) -> Array:
    share = levels / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def _from_linear(light: Array) -> Array:
    share = np.clip(light, 0, 1)
    return 255 * np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)


def _log_light(levels: Array) -> Array:
    return np.asarray(np.log(_linear(levels) + _DARKEST), np.float32)
