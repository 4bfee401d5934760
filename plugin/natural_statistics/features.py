"""Natural scene statistics of a region: what the contrast-normalised pixels of photographs have in common.

Mean-subtracted contrast-normalised (MSCN) coefficients and the products of neighbours, as in BRISQUE (Mittal, Moorthy,
Bovik: "No-reference image quality assessment in the spatial domain", 2012) and NIQE (Mittal, Soundararajan, Bovik:
"Making a completely blind image quality analyzer", 2013), at two scales; and two opponent colours, as in IL-NIQE
(Zhang, Zhang, Bovik, 2015). A region of any outline takes the place of their square patches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import gamma

__all__ = ["asymmetric_fit", "region_features", "shrunk_region", "symmetric_fit"]

Plane = NDArray[np.float64]
Region = NDArray[np.bool_]

_SCALES = 2
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
_OPPONENTS = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])
"""Luminance, red against green, yellow against blue, from RGB."""
_SIGMA, _REACH_PX = 7 / 6, 3
_STABLE = 1.0  # levels: keeps flat areas from being divided by nothing
_LITTLE = 1e-3
_SHAPES = np.exp(np.linspace(np.log(0.15), np.log(12.0), 2000))
_RATIOS = gamma(2 / _SHAPES) ** 2 / (gamma(1 / _SHAPES) * gamma(3 / _SHAPES))


def region_features(picture: NDArray[np.uint8], region: Region) -> Plane:
    """(50,) float64: of the pixels of `region`, whose windows reach 3 px (6 at the coarser scale) beyond it.

    picture: (H, W, 3) uint8. region: (H, W) bool, with pixels left at every scale (`shrunk_region`).
    """
    planes = picture @ _OPPONENTS.T
    told = []
    for scale in range(_SCALES):
        if scale:
            planes, region = _shrunk(planes), shrunk_region(region)
        told += _luminance_features(planes[..., 0], region)
        told += [figure for k in (1, 2) for figure in _colour_features(planes[..., k], region)]
    return np.array(told)


def _shrunk(planes: Plane) -> Plane:
    """Means of 2 x 2 pixels of (H, W) or (H, W, C); an odd last row or column is left out."""
    height, width = planes.shape[0] // 2 * 2, planes.shape[1] // 2 * 2
    corners = (planes[row:height:2, column:width:2] for row in (0, 1) for column in (0, 1))
    return np.asarray(sum(corners) / 4)


def shrunk_region(region: Region) -> Region:
    """(H // 2, W // 2) bool: where all of 2 x 2 pixels are of the region."""
    return np.equal(_shrunk(region.astype(np.float64)), 1)


def _normalised(plane: Plane) -> tuple[Plane, Plane]:
    """MSCN coefficients, and the local deviation that they were divided by."""
    mean = ndimage.gaussian_filter(plane, _SIGMA, radius=_REACH_PX)
    spread = ndimage.gaussian_filter(plane * plane, _SIGMA, radius=_REACH_PX) - mean * mean
    deviation = np.sqrt(np.maximum(spread, 0))
    return (plane - mean) / (deviation + _STABLE), deviation


def _colour_features(plane: Plane, region: Region) -> list[float]:
    coefficients, deviation = _normalised(plane)
    return [*symmetric_fit(coefficients[region]), float(np.log(deviation[region] + _STABLE).mean())]


def _luminance_features(plane: Plane, region: Region) -> list[float]:
    coefficients, deviation = _normalised(plane)
    told = [*symmetric_fit(coefficients[region]), float(np.log(deviation[region] + _STABLE).mean())]
    for step in _NEIGHBOURS:
        both = region & np.roll(region, step, (0, 1))
        told += asymmetric_fit((coefficients * np.roll(coefficients, step, (0, 1)))[both])
    return told


def symmetric_fit(values: Plane) -> list[float]:
    """Logarithms of shape (2: normal, 1: Laplace) and variance of a generalised Gaussian, by moments."""
    power = _power(values) + _LITTLE
    return [_log_shape((float(np.abs(values).mean()) + _LITTLE) ** 2 / power), float(np.log(power))]


def asymmetric_fit(values: Plane) -> list[float]:
    """Log shape, mean, and log variance of either side of an asymmetric generalised Gaussian, by moments."""
    left, right = _power(values[values < 0]) + _LITTLE, _power(values[values > 0]) + _LITTLE
    skew = np.sqrt(left / right)
    ratio = (float(np.abs(values).mean()) + _LITTLE) ** 2 / (_power(values) + _LITTLE)
    shape = _log_shape(ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2)
    return [shape, float(values.mean()), float(np.log(left)), float(np.log(right))]


def _power(values: Plane) -> float:
    return float((values * values).mean()) if values.size else 0.0


def _log_shape(ratio: float) -> float:
    return float(np.log(np.interp(ratio, _RATIOS, _SHAPES)))
