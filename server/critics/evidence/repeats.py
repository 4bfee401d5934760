"""Copy-repeats: patches of the inside that stand again elsewhere, pixel for pixel.

The crop is high-passed and brought to equal local contrast; one correlation by FFT of the inside with the
whole crop proposes displacements, and the local normalised correlation at each decides. Flat areas have no
contrast and never match.

Source: copy-move forgery detection by displacement voting (Fridrich, Soukal and Lukas, 2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from editcritic.server.critics.evidence.calibration import REPEAT_SIDE_PX
from editcritic.server.critics.finding import Finding, figure, strongest_box
from editcritic.server.critics.views import Views
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Repeat", "find_repeat", "judge_repeats"]

Plane = NDArray[np.float32]

WINDOW_PX = 11
MIN_CORNER = 0.8
"""Levels per pixel: the weaker of a window's two gradients must reach it."""
MIN_CONTRAST = 2.5
"""Levels: below it a window holds no texture that could be recognised."""
SAME = 0.96
"""Normalised correlation from which two windows show the same pixels rather than the same kind of thing."""
NEAREST_PX = 10
"""Closer than this everything resembles itself."""
PROPOSALS = 6


@dataclass(frozen=True, eq=False)
class Repeat:
    """The largest repeat.

    Attributes:
        area: pixels that stand twice.
        share: the same over the region's pixels.
        shift: (dx, dy) to the other one; (0, 0) without a repeat.
        correlation: mean normalised correlation there, 0 without a repeat.
        map: (h, w) float32, 1 where a pixel stands twice.
    """

    area: int
    share: float
    shift: tuple[int, int]
    correlation: float
    map: Plane


def find_repeat(luma: Plane, region: NDArray[np.bool_], everywhere: NDArray[np.bool_]) -> Repeat:
    """What of `region` stands again within `everywhere`, both (h, w) bool; all displacements joined."""
    joined = np.zeros(luma.shape, np.float32)
    best_shift, best_area, best_correlation = (0, 0), 0, 0.0
    if region.any() and min(luma.shape) > 2 * NEAREST_PX:
        high = luma - cv2.GaussianBlur(luma, (0, 0), 3.0)
        power = np.maximum(cv2.boxFilter(high * high, -1, (WINDOW_PX, WINDOW_PX)), 0)
        corners = _corners(high)
        for shift in _proposals(high, power, region, everywhere):
            same, correlation = _verify(high, power, region & corners, everywhere, shift)
            area = int(same.sum())
            joined = np.maximum(joined, same.astype(np.float32))
            if area > best_area:
                best_shift, best_area, best_correlation = (shift[1], shift[0]), area, correlation
    area = int(joined.sum())
    return Repeat(area, area / max(int(region.sum()), 1), best_shift, best_correlation, joined)


def judge_repeats(luma: Plane, views: Views, natural_area: int) -> Finding:
    """The finding for the inside; a photograph that repeats itself has to be exceeded."""
    found = find_repeat(luma, views.inside, views.inside | views.outside)
    inside = int(views.inside.sum())
    measured = figure("repeated_share", found.share, "fraction", min(natural_area / inside, 1.0), 0.05)
    strength = float(np.sqrt(found.area)) / max(REPEAT_SIDE_PX, float(np.sqrt(natural_area)))
    place = f"({found.shift[0]:+d}, {found.shift[1]:+d} pixels away)" if found.area else ""
    return Finding(
        pb.DEFECT_KIND_TEXTURE_REPEAT, strength, [measured], found.map, place, strongest_box(found.map)
    )


def _corners(high: Plane) -> NDArray[np.bool_]:
    """(h, w) bool: windows with structure both ways; along a straight edge everything repeats itself."""
    down, across = np.gradient(high)
    size = (WINDOW_PX, WINDOW_PX)
    products = (np.asarray(one * other) for one, other in ((across, across), (down, down), (across, down)))
    xx, yy, xy = (np.asarray(cv2.boxFilter(product, -1, size)) for product in products)
    half, apart = (xx + yy) / 2, np.sqrt(np.square((xx - yy) / 2) + xy * xy)
    return np.asarray((half - apart > MIN_CORNER**2) & (half - apart > 0.1 * (half + apart)))


def _proposals(
    high: Plane, power: Plane, region: NDArray[np.bool_], everywhere: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """(dy, dx) at which the region correlates best with the rest, the best first."""
    even = np.clip(high / (np.sqrt(power) + MIN_CONTRAST), -3, 3)
    shape = tuple(fft.next_fast_len(length, real=True) for length in high.shape)
    here = fft.rfft2(even * region, shape)
    there = fft.rfft2(even * everywhere, shape)
    found = fft.irfft2(np.conj(here) * there, shape).astype(np.float32)
    rows, columns = fft.fftfreq(shape[0], 1 / shape[0]), fft.fftfreq(shape[1], 1 / shape[1])
    found[np.maximum(np.abs(rows)[:, None], np.abs(columns)[None]) < NEAREST_PX] = -np.inf
    proposals = []
    for _ in range(PROPOSALS):
        row, column = np.unravel_index(int(np.argmax(found)), found.shape)
        dy, dx = int(rows[row]), int(columns[column])
        proposals.append((dy, dx))
        near = (np.abs(rows - dy)[:, None] <= 2) & (np.abs(columns - dx)[None] <= 2)
        found[near] = -np.inf
    return proposals


def _verify(
    high: Plane,
    power: Plane,
    region: NDArray[np.bool_],
    everywhere: NDArray[np.bool_],
    shift: tuple[int, int],
) -> tuple[NDArray[np.bool_], float]:
    here, there = _overlap(high.shape, shift)
    same = np.zeros(high.shape, bool)
    if here is None or there is None:
        return same, 0.0
    product = cv2.boxFilter(high[here] * high[there], -1, (WINDOW_PX, WINDOW_PX))
    one, other = power[here], power[there]
    correlation = product / np.sqrt(np.maximum(one * other, 1e-6))
    textured = np.minimum(one, other) > MIN_CONTRAST**2
    alike = textured & (correlation > SAME) & (one < 2 * other) & (other < 2 * one)
    alike &= region[here] & everywhere[there]
    kernel = np.ones((5, 5), np.uint8)
    alike = cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)
    if not alike.any():
        return same, 0.0
    mean = float(correlation[alike].mean())
    grown = cv2.dilate(alike.astype(np.uint8), np.ones((WINDOW_PX - 2,) * 2, np.uint8)).astype(bool)
    same[here] = grown & region[here]
    return same, mean


def _overlap(
    shape: tuple[int, ...], shift: tuple[int, int]
) -> tuple[tuple[slice, slice] | None, tuple[slice, slice] | None]:
    """Slices of the pixels that have a partner at `shift`, and of their partners."""
    spans = []
    for length, move in zip(shape, shift, strict=True):
        if abs(move) >= length - WINDOW_PX:
            return None, None
        start, stop = max(0, -move), min(length, length - move)
        spans.append((slice(start, stop), slice(start + move, stop + move)))
    return (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])
