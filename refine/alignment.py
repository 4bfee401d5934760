"""Whether an engine moved the picture: some editing models shift or zoom what they should have kept by a few pixels.

Source: phase correlation (Kuglin & Hines 1975) tells whether both are one scene, upsampled cross-correlation
(Guizar-Sicairos et al. 2008) by how much it moved; the fault is reported for FLUX Kontext and Qwen-Image-Edit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_SHIFT", "aligned", "ring_shift"]

Array = NDArray[np.float32]

MAX_SHIFT = 8.0
"""Pixels of working size up to which a shift is undone; beyond, the picture is not the same scene any more."""

_WORTH_UNDOING = 0.3
_PARTS = 20  # of a pixel, to which a shift is measured
# Height of the peak: unrelated pictures stay under .06, the same picture re-encoded reaches .3 and more.
_CONFIDENT = 0.12


def _flat(picture: Array, keep: Array) -> Array:
    """Grey (h, w), zero mean over the kept pixels and zero elsewhere, faded out to the frame."""
    grey = picture.mean(axis=-1)
    weight = keep * np.outer(np.hanning(len(grey)), np.hanning(grey.shape[1]))
    mean = (grey * weight).sum() / max(float(weight.sum()), 1e-6)
    return np.asarray((grey - mean) * weight, np.float32)


def ring_shift(source: Array, picture: Array, mask: Array) -> tuple[float, float, float]:
    """How far `picture` lies from `source` outside the mask: rows down, columns right, and the height of
    the peak in [0, 1].

    source, picture: (h, w, 3) float32 in [0, 1]. mask: (h, w) float32 in [0, 1], 1 where the picture may differ.
    A peak under .12 means that nothing can be said (hardly anything unmasked, or no texture): the shift is then 0.
    """
    from skimage.registration import phase_cross_correlation

    keep = (mask < 0.5).astype(np.float32)
    first, second = (_flat(p, keep) for p in (source, picture))
    peak = _peak(first, second)
    if peak < _CONFIDENT:
        return 0.0, 0.0, peak
    back, _, _ = phase_cross_correlation(first, second, upsample_factor=_PARTS, normalization=None)  # type: ignore[no-untyped-call]
    return -float(back[0]), -float(back[1]), peak


def _peak(first: Array, second: Array) -> float:
    """Height of the phase correlation's peak in [0, 1]: how sure it is that both are one scene."""
    cross = np.conj(np.fft.rfft2(first)) * np.fft.rfft2(second)
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=first.shape)
    return max(float(surface.max()), 0.0)


def aligned(source: Array, picture: Array, mask: Array) -> tuple[Array, tuple[float, float]]:
    """The picture moved back onto the source, and the shift (rows, columns) that was undone; (0, 0) when it lay right.

    Shapes as in `ring_shift`. A shift beyond `MAX_SHIFT` is reported but not undone.
    """
    from scipy.ndimage import shift

    dy, dx, _ = ring_shift(source, picture, mask)
    if max(abs(dy), abs(dx)) < _WORTH_UNDOING:
        return picture, (0.0, 0.0)
    if max(abs(dy), abs(dx)) > MAX_SHIFT:
        return picture, (dy, dx)
    moved = shift(picture, (-dy, -dx, 0), order=1, mode="nearest")
    return np.asarray(moved, np.float32), (dy, dx)
