"""Known faults, put into a real face: what an inpainting model does to faces, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.views import Bounds, lab_of

__all__ = ["FACE_FAULTS", "spoil_face"]

Pixels = NDArray[np.uint8]
Head = NDArray[np.float32]
_EYES = ((0.32, 0.40), (0.68, 0.40))
"""Where the eyes of a face stand, as shares of its box's sides."""


def spoil_face(picture: Pixels, box: Bounds, fault: str, severity: float, seed: int) -> Pixels:
    """The picture (H, W, 3) with one fault in the face at `box`, fading out at its rim.

    Args:
        fault: one of `FACE_FAULTS`.
        severity: above 0, at most 1.
        seed: decides sides and noise.
    """
    rng = np.random.default_rng(seed)
    spoilt = FACE_FAULTS[fault](picture.astype(np.float32), box, severity, rng)
    weight = _ellipse(picture.shape[:2], box.x + box.width / 2, box.y + box.height / 2, box.width * 0.5, 1.15)
    mixed = picture + weight[..., None] * (spoilt - picture)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def _blur(head: Head, box: Bounds, severity: float, _rng: np.random.Generator) -> Head:
    return np.asarray(cv2.GaussianBlur(head, (0, 0), 0.8 + 0.04 * severity * box.width), np.float32)


def _noise(head: Head, _box: Bounds, severity: float, rng: np.random.Generator) -> Head:
    return np.asarray(head + rng.normal(0, 25 * severity, head.shape), np.float32)


def _colour(head: Head, _box: Bounds, severity: float, rng: np.random.Generator) -> Head:
    luma, a, b = lab_of(np.clip(head, 0, 255).astype(np.uint8))
    angle = rng.uniform(0, 2 * np.pi)
    lab = np.stack([luma / 2.55, a + 40 * severity * np.cos(angle), b + 40 * severity * np.sin(angle)], -1)
    shifted = 255 * np.clip(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1)
    return np.asarray(shifted, np.float32)


def _warp(head: Head, box: Bounds, severity: float, rng: np.random.Generator) -> Head:
    """One half of the face moves down or up."""
    rows, columns = np.mgrid[0 : head.shape[0], 0 : head.shape[1]].astype(np.float32)
    side = rng.choice([-1.0, 1.0])
    across = (columns - box.x - box.width / 2) / box.width * side
    reach = np.clip(across / 0.15, 0, 1) * rng.choice([-1.0, 1.0])
    moved = rows + 0.22 * severity * box.height * reach
    return np.asarray(
        cv2.remap(head, columns, moved.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
        np.float32,
    )


def _melt(head: Head, box: Bounds, severity: float, rng: np.random.Generator) -> Head:
    """All of the face is bent by a smooth random field."""
    shape = (head.shape[0], head.shape[1])
    field = rng.normal(0, 1, (2, 6, 6)).astype(np.float32)
    at = (slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
    offsets = np.zeros((2, *shape), np.float32)
    for axis in (0, 1):
        size = (min(box.width, shape[1] - box.x), min(box.height, shape[0] - box.y))
        large = cv2.resize(field[axis], size, interpolation=cv2.INTER_CUBIC)
        offsets[axis][at] = 0.08 * severity * box.width * large
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    return np.asarray(
        cv2.remap(
            head, columns + offsets[1], rows + offsets[0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        ),
        np.float32,
    )


def _eye_moved(head: Head, box: Bounds, severity: float, rng: np.random.Generator) -> Head:
    """One eye stands lower than the other; cheek closes the place where it was."""
    x, y = _eye(box, rng)
    radius = 0.17 * box.width
    shift = np.array([[1, 0, 0], [0, 1, 0.25 * severity * box.height]], np.float32)
    lowered = cv2.warpAffine(head, shift, (head.shape[1], head.shape[0]), borderMode=cv2.BORDER_REFLECT)
    old = _ellipse(head.shape[:2], x, y, radius, 0.7)
    new = _ellipse(head.shape[:2], x, y + 0.25 * severity * box.height, radius, 0.7)
    hole = (old > 0.3).astype(np.uint8)
    closed = cv2.inpaint(np.clip(head, 0, 255).astype(np.uint8), hole, 3, cv2.INPAINT_TELEA)
    without = head + old[..., None] * (closed - head)
    return np.asarray(without + new[..., None] * (lowered - without), np.float32)


def _eye_flipped(head: Head, box: Bounds, severity: float, rng: np.random.Generator) -> Head:
    """One eye is upside down, larger where the fault is graver."""
    x, y = _eye(box, rng)
    scale = 1.0 + 0.6 * severity
    matrix = np.array([[1 / scale, 0, x - x / scale], [0, -1 / scale, y + y / scale]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (head.shape[1], head.shape[0])
    turned = cv2.warpAffine(head, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    weight = _ellipse(head.shape[:2], x, y, 0.17 * box.width * scale, 0.7)
    return np.asarray(head + weight[..., None] * (turned - head), np.float32)


def _eye(box: Bounds, rng: np.random.Generator) -> tuple[float, float]:
    across, down = _EYES[int(rng.integers(0, 2))]
    return box.x + across * box.width, box.y + down * box.height


def _ellipse(shape: tuple[int, ...], x: float, y: float, radius: float, tall: float) -> Head:
    """1 within, 0 beyond, with a rim of a fifth of the radius."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    away = np.hypot((columns - x) / radius, (rows - y) / (radius * tall))
    return np.asarray(np.clip((1 - away) / 0.2, 0, 1), np.float32)


FACE_FAULTS: Mapping[str, Callable[[Head, Bounds, float, np.random.Generator], Head]] = {
    "blur": _blur,
    "noise": _noise,
    "colour": _colour,
    "half_warped": _warp,
    "melted": _melt,
    "eye_moved": _eye_moved,
    "eye_flipped": _eye_flipped,
}
"""Name -> how the whole picture is changed; `spoil_face` keeps it to the face."""
