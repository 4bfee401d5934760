"""An edit with an answer of known quality, and the geometry that injections share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.change import largest_change

__all__ = ["EditCase", "Pixels", "Plane", "blend", "blob", "depth", "lab_shift", "part", "place"]

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]

_SMOOTH_PX = 2.0
_VISIBLE_LEVELS = 1.0
_VISIBLE_SHARE = 0.2
_SEEN_LEVELS = 5.0


@dataclass(frozen=True, eq=False)
class EditCase:
    """An edit with an answer of known quality.

    Attributes:
        source: (H, W, 3) uint8; what was to be edited.
        mask: (H, W) float32 in [0, 1], hard or soft; the denoise mask, by which the answer is blended too.
        candidate: (H, W, 3) uint8; the answer.
        clean: (H, W, 3) uint8; the perfect answer.
        donor: (H, W, 3) uint8; another photograph, of which foreign content is taken.
        injected: name of the injection; empty for a clean control.
        severity: of the injection, in (0, 1]; 0 for a clean control.
    """

    source: Pixels
    mask: Plane
    candidate: Pixels
    clean: Pixels
    donor: Pixels
    injected: str = ""
    severity: float = 0.0

    @property
    def injured(self) -> NDArray[np.bool_]:
        """(H, W) bool: where the candidate visibly differs from the perfect answer.

        The change is smoothed first: grain injures an area, not the pixels that happened to move far.
        """
        change = largest_change(self.candidate, self.clean).astype(np.float32)
        smooth = cv2.GaussianBlur(change, (0, 0), _SMOOTH_PX)
        touched = smooth[smooth > _VISIBLE_LEVELS]
        if touched.size == 0:
            return np.zeros(smooth.shape, np.bool_)
        level = max(_VISIBLE_LEVELS, _VISIBLE_SHARE * float(np.quantile(touched, 0.9)))
        return np.asarray(smooth > level)

    @property
    def visible(self) -> bool:
        """Whether the candidate's fault moves pixels by at least 5 levels in a tenth of the injured place.

        A blurred sky is the same sky: no critic can be asked to find that.
        """
        injured = self.injured
        if not injured.any():
            return False
        change = largest_change(self.candidate, self.clean)
        return float(np.quantile(change[injured], 0.9)) >= _SEEN_LEVELS


def blend(below: Pixels, above: NDArray[Any], alpha: Plane) -> Pixels:
    """`above` over `below` by `alpha` (H, W); both (H, W, 3), the result rounded and clipped."""
    mixed = below + alpha[..., None] * (above.astype(np.float32) - below)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def lab_shift(case: EditCase, shift: NDArray[np.floating]) -> Pixels:
    """The candidate with (…, 3) added in Lab."""
    lab = cv2.cvtColor(case.clean.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    moved = (lab + shift).astype(np.float32)
    moved[..., 0] = np.clip(moved[..., 0], 0, 100)
    rgb = np.clip(cv2.cvtColor(moved, cv2.COLOR_LAB2RGB) * 255, 0, 255)
    return blend(case.clean, rgb, case.mask)


def place(case: EditCase) -> tuple[Plane, Plane]:
    """Place in the mask's box from -1 to 1: columns and rows, (H, W) each."""
    rows, columns = np.nonzero(case.mask > 0.5)
    height, width = case.mask.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across = (x - (columns.min() + columns.max()) / 2) / max(np.ptp(columns) / 2, 1)
    down = (y - (rows.min() + rows.max()) / 2) / max(np.ptp(rows) / 2, 1)
    return across.astype(np.float32), down.astype(np.float32)


def part(case: EditCase, share: float, rng: np.random.Generator) -> Plane:
    """(H, W) hard mask of a growing share of the mask, from a random side: nested for growing shares."""
    across, down = place(case)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * across + np.sin(angle) * down
    inside = case.mask > 0.5
    level = np.quantile(along[inside], 1 - share)
    return np.where(along >= level, case.mask, 0).astype(np.float32)


def depth(case: EditCase) -> Plane:
    """(H, W) distance to the border in pixels, positive inside."""
    inside = (case.mask > 0.5).astype(np.uint8)
    inner = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    outer = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    return np.where(inside > 0, inner - 0.5, 0.5 - outer).astype(np.float32)


def blob(shape: tuple[int, ...], centre: tuple[int, int], radius: int, rng: np.random.Generator) -> Plane:
    """A dented disc with a rim of about a pixel, (H, W) float32; a larger radius holds the smaller one.

    Args:
        shape: (H, W).
        centre: row, column.
        radius: mean radius in pixels.
        rng: decides the dents.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    down, across = y - centre[0], x - centre[1]
    angle = np.arctan2(down, across)
    rim = np.ones_like(angle)
    for turns in (2, 3, 5):
        rim += 0.12 * float(rng.normal()) * np.cos(turns * angle + float(rng.uniform(0, 6.28)))
    inside: Plane = np.clip(radius * np.clip(rim, 0.5, 1.5) - np.hypot(down, across) + 0.5, 0, 1)
    return inside.astype(np.float32)
