"""Injected faults of content: repeats, melted and bent texture, foreign, doubled and missing parts."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.training.defects.case import EditCase, Pixels, Plane, blend, blob, depth, part

__all__ = [
    "black",
    "duplicate",
    "flat",
    "foreign",
    "melt",
    "omit",
    "pull_push",
    "repeat",
    "smear",
    "warp",
]

Rng = np.random.Generator
_DUPLICATE_SHARE = 0.22


def repeat(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """One patch with texture, stamped into the mask one to four times."""
    deep = depth(case)
    inside = np.argwhere(deep > 0.35 * deep.max())
    size = int(np.clip(0.55 * np.sqrt((case.mask > 0.5).sum()), 18, 64))
    height, width = case.mask.shape
    size = min(size, height // 2, width // 2)
    patch = _textured_patch(case, size, rng)
    stamp = cv2.GaussianBlur(np.pad(np.ones((size - 4, size - 4), np.float32), 2), (0, 0), 1.0)
    canvas, alpha = case.clean.astype(np.float32), np.zeros(case.mask.shape, np.float32)
    spots = inside[rng.permutation(len(inside))[:4]]
    for row, column in spots[: max(1, round(4 * severity))]:
        y, x = _corner(case, int(row), int(column), size)
        here = (slice(y, y + size), slice(x, x + size))
        canvas[here] = canvas[here] + stamp[..., None] * (patch - canvas[here])
        alpha[here] = 1.0
    return blend(case.clean, canvas, case.mask * alpha)


def _textured_patch(case: EditCase, size: int, rng: Rng) -> Plane:
    grey = cv2.cvtColor(case.clean, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    best, found = -1.0, case.clean[:size, :size]
    for _ in range(12):
        y, x = int(rng.integers(0, height - size + 1)), int(rng.integers(0, width - size + 1))
        part = grey[y : y + size, x : x + size]
        texture = float((part - cv2.GaussianBlur(part, (0, 0), 2)).std())
        if texture > best:
            best, found = texture, case.clean[y : y + size, x : x + size]
    return found.astype(np.float32)


def flat(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A part of the inside is its mean colour."""
    colour = case.clean[case.mask > 0.5].mean(axis=0)
    return blend(case.clean, np.broadcast_to(colour, case.clean.shape), part(case, severity, rng))


def black(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A part of the inside is black."""
    return blend(case.clean, np.zeros(case.clean.shape, np.float32), part(case, severity, rng))


def melt(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """Texture run together: a turbulent displacement, then flattened into patches of one colour."""
    moved = _displaced(case, 1.0 + 3.0 * severity, rng.uniform(3, 7), rng)
    size = 2 * round(1 + 3 * severity) + 1
    melted = cv2.medianBlur(moved, size)
    return blend(case.clean, melted, case.mask * np.float32(0.5 + 0.5 * severity))


def warp(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """Shapes bent by a smooth displacement that fades towards the border."""
    bent = _displaced(case, 2.0 + 10.0 * severity, rng.uniform(10, 22), rng)
    return blend(case.clean, bent, case.mask)


def _displaced(case: EditCase, reach_px: float, scale_px: float, rng: Rng) -> Pixels:
    height, width = case.mask.shape
    coarse = (max(2, round(height / scale_px)), max(2, round(width / scale_px)))
    taper = np.clip(depth(case) / 6, 0, 1)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moves = []
    for _ in range(2):
        field = rng.normal(0, 1, coarse).astype(np.float32)
        moves.append(reach_px * taper * cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC))
    moved = cv2.remap(case.clean, x + moves[0], y + moves[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, np.uint8)


def smear(case: EditCase, severity: float, _rng: Rng) -> Pixels:
    """The inside drawn from its border alone, as a smooth interpolation does it."""
    filled = pull_push(case.clean, case.mask < 0.02)
    return blend(case.clean, filled, case.mask * np.float32(0.3 + 0.7 * severity))


def pull_push(image: Pixels, known: NDArray[np.bool_]) -> Pixels:
    """Fill what is unknown from a pyramid of what is known.

    Source: Gortler et al., "The Lumigraph" (1996), section 3.4.

    Args:
        image: (H, W, 3) uint8.
        known: (H, W) bool.
    """
    levels: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (image.astype(np.float32) * known[..., None], known.astype(np.float32))
    ]
    while min(levels[-1][1].shape) > 2:
        levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-3)[..., None]
    for colours, weight in reversed(levels[:-1]):
        height, width = weight.shape
        coarse = cv2.pyrUp(filled, dstsize=(width, height))
        sure = np.clip(weight, 0, 1)[..., None]
        own = colours / np.maximum(weight, 1e-3)[..., None]
        filled = sure * own + (1 - sure) * coarse
    return np.asarray(np.clip(np.round(filled), 0, 255), np.uint8)


def duplicate(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A part with structure stands a second time, in the tone of its new place."""
    state = rng.bit_generator.state
    widest, (row, column), radius = _blob_inside(case, _DUPLICATE_SHARE + 0.3, rng)
    size = min(2 * radius + 1, *(length - 1 for length in widest.shape))
    patch = _textured_patch(case, size, rng)
    rng.bit_generator.state = state
    where, _, _ = _blob_inside(case, _DUPLICATE_SHARE + 0.3 * severity, rng)
    canvas = case.clean.astype(np.float32)
    y, x = _corner(case, row, column, size)
    here = (slice(y, y + size), slice(x, x + size))
    there, own = canvas[here].mean(axis=(0, 1)), patch.mean(axis=(0, 1))
    canvas[here] = patch + 0.5 * (there - own)
    return blend(case.clean, np.clip(canvas, 0, 255), where)


def omit(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A part with structure is missing: its place was drawn from its surroundings."""
    where, _, _ = _blob_inside(case, 0.25 + 0.35 * severity, rng, textured=True)
    filled = pull_push(case.clean, where < 0.02)
    grain = rng.normal(0, 1.5, (*case.mask.shape, 1))
    return blend(case.clean, np.clip(filled + grain, 0, 255), where)


def foreign(case: EditCase, severity: float, rng: Rng) -> Pixels:
    """A piece of another photograph, cut without regard to what it shows."""
    where, _, _ = _blob_inside(case, 0.25 + 0.45 * severity, rng)
    height, width = case.mask.shape
    other = cv2.resize(case.donor, (width, height), interpolation=cv2.INTER_AREA)
    return blend(case.clean, np.roll(other, int(rng.integers(width)), axis=1), where)


def _blob_inside(
    case: EditCase, share: float, rng: Rng, textured: bool = False
) -> tuple[Plane, tuple[int, int], int]:
    """A soft blob whose radius is `share` of the mask's side: alpha, centre (row, column), radius."""
    radius = max(5, round(share * 0.5 * float(np.sqrt((case.mask > 0.5).sum()))))
    deep = depth(case)
    spots = np.argwhere(deep > 0.4 * deep.max())
    chosen = spots[rng.permutation(len(spots))[:8]]
    row, column = max(chosen, key=lambda at: _busy(case, at)) if textured else chosen[0]
    shape = blob(case.mask.shape, (int(row), int(column)), radius, rng)
    return shape * case.mask, (int(row), int(column)), radius


def _busy(case: EditCase, at: NDArray[np.int64]) -> float:
    near = case.clean[max(0, at[0] - 10) : at[0] + 10, max(0, at[1] - 10) : at[1] + 10]
    return float(near.astype(np.float32).std())


def _corner(case: EditCase, row: int, column: int, size: int) -> tuple[int, int]:
    height, width = case.mask.shape
    return (
        int(np.clip(row - size // 2, 0, height - size)),
        int(np.clip(column - size // 2, 0, width - size)),
    )
