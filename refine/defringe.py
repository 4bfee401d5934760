"""A line or fringe along the border that neither of its two sides explains, taken away.

What lies between the colour outside and the colour deeper inside is a passage from one to the other and stays; what
overshoots both is a fringe, provided that it begins or ends abruptly at the border: things that happen to lie there do
so no more abruptly than the photograph does a little further in or out (empirical Bayes).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.crop import cropped, from_lab, to_lab
from editcritic.refine.strip import Strip, unrolled

__all__ = ["defringed"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

_REACH = 20  # pixels on either side that are looked at
_ALONG = 6.0  # pixels of border over which profiles are averaged
_OUTSIDE, _DEEP = (-6, -3), (12, 18)  # depths of the two colours that explain what lies between
_NARROW = (6, 11)  # the second of them where the mask is too narrow for that
_FROM, _TO, _FADE = -2, 12, 4  # depths at which a fringe may lie; it fades out over the last pixels
_ELSEWHERE = [offset for offset in range(-15, 16, 2) if abs(offset) >= 6]
_ABRUPT = 3.0  # a fringe is at most as many times what is abrupt in it
_DOUBT = 0.3  # of the abruptness elsewhere that is held against it
_SMOOTH = 4.0  # columns


def defringed(source: Pixels, picture: Pixels, blend: Array) -> Pixels:
    """The edit without the fringe along its border, in CIELAB.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]; beyond it the source bit for bit.
    """
    crop = cropped(source, picture, blend)
    strip = unrolled(crop.weight, _REACH) if crop.has_both_sides else None
    if strip is None:
        return crop.unchanged()
    now = to_lab(crop.now)
    profile, pixels = strip.gathered(now, np.ones_like(crop.weight), _ALONG)
    fringe = _overshoot(profile, pixels) * _belief(profile, pixels)
    # In a soft rim too the whole of it: a fringe that the blend left there would only be a thinner line.
    return crop.replaced(from_lab(now - _laid_out(strip, fringe)))


def _laid_out(strip: Strip, fringe: Array) -> Array:
    rows = np.arange(-_REACH, _REACH + 1)
    fade = np.clip((_TO - rows) / _FADE, 0, 1) * (rows >= _FROM)
    return strip.laid_out(fringe * fade[:, None, None])


def _band(profile: Array, pixels: Array, depths: tuple[int, int]) -> tuple[Array, Array]:
    """Mean (columns, c) of a profile between two depths, and the pixels behind it (columns,)."""
    rows = slice(_REACH + depths[0], _REACH + depths[1] + 1)
    behind = pixels[rows].sum(axis=0)
    return (profile[rows] * pixels[rows][..., None]).sum(axis=0) / np.maximum(behind, 1e-6)[:, None], behind


def _overshoot(profile: Array, pixels: Array) -> Array:
    """(rows, columns, c): by how much each place lies beyond both the colour outside and the colour deep inside."""
    outside, _ = _band(profile, pixels, _OUTSIDE)
    (deep, behind), (nearer, left) = (_band(profile, pixels, depths) for depths in (_DEEP, _NARROW))
    deep = np.where((behind > 5)[:, None], deep, nearer)
    low, high = np.minimum(outside, deep), np.maximum(outside, deep)
    over = np.maximum(profile - high, 0) + np.minimum(profile - low, 0)
    rows = np.arange(-_REACH, _REACH + 1)
    told = ((rows >= _FROM) & (rows <= _TO))[:, None] & (np.maximum(behind, left) > 5) & (pixels > 0.5)
    return np.asarray(over * told[..., None])


def _belief(profile: Array, pixels: Array) -> Array:
    """(columns, c) in [0, 1]: how much of an overshoot its abruptness at the border supports."""
    from scipy.ndimage import gaussian_filter1d

    over = _overshoot(profile, pixels)
    peak = np.take_along_axis(over, np.abs(over).argmax(axis=0)[None], axis=0)[0]
    support = np.zeros_like(peak)
    for abruptness in (_jump, _ridge):
        here = abruptness(profile, pixels, 0)
        doubt = _DOUBT * _usual(profile, pixels, abruptness)
        shrunk = here * np.maximum(0, 1 - doubt / np.maximum(here**2, 1e-6))
        support = np.maximum(support, shrunk * np.sign(peak))
    share = np.clip(_ABRUPT * support / np.maximum(np.abs(peak), 1e-3), 0, 1)
    return np.asarray(gaussian_filter1d(share, _SMOOTH, axis=0))


def _usual(profile: Array, pixels: Array, abruptness: Any) -> Array:
    """Mean square (c,) of an abruptness at depths away from the border; 0 where there are none."""
    squares = [
        (abruptness(profile, pixels, offset)[pixels[_REACH + offset] > 1] ** 2).mean(axis=0)
        for offset in _ELSEWHERE
        if (pixels[_REACH + offset] > 1).sum() > 5
    ]
    return np.mean(squares, axis=0) if squares else np.zeros(profile.shape[-1])


def _jump(profile: Array, pixels: Array, at: int) -> Array:
    """(columns, c): the step between depths at - 1 and at, beyond the slope on either side."""
    far_out, out, inner, far_in = (
        _band(profile, pixels, (at + start, at + start + 1))[0] for start in (-4, -2, 0, 2)
    )
    return np.asarray((inner - out) - ((far_in - inner) + (out - far_out)) / 2)


def _ridge(profile: Array, pixels: Array, at: int) -> Array:
    """(columns, c): by how much the three pixels about a depth stand out from those four away."""
    middle, out, inner = (
        _band(profile, pixels, (at + start, at + end))[0] for start, end in ((-1, 1), (-4, -3), (3, 4))
    )
    return np.asarray(middle - (out + inner) / 2)
