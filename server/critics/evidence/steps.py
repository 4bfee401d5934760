"""Excess steps: how much more a plane changes at the mask's border than beside it.

A photograph is smooth at the scale of a pixel, so its own edges spread over several bins of a profile, while
a fill that was laid over it changes exactly as its mask does. A kernel on the profile's differences asks for
that change and for nothing else: differences that are constant or sloping across the border cancel.

Source: boundary gradient statistics in no-reference inpainting assessment; the kernel is the least-squares
estimate of the height of a known edge on a background of white differences (a matched filter).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.evidence.border import HALF_BAND_PX, Border

__all__ = ["Kernel", "StepStats", "Steps", "fit", "line_kernel", "sharp_kernel", "soft_kernel", "steps"]

Array = NDArray[np.float64]

NOISE_FLOOR = 0.5
"""Levels (or Lab units): below it a step is rounding."""
MAX_REACH = HALF_BAND_PX - 4


@dataclass(frozen=True, eq=False)
class Kernel:
    """Weights on the profile's differences around the border.

    Attributes:
        name: what it looks for.
        weights: (2 M + 1,) applied to the differences from M bins outside to M bins inside.
        design: (2 M + 1, n) what a profile's differences are fitted with, to learn how noisy they are here;
            None when the kernel is short enough to be tried at other distances from the border instead.
    """

    name: str
    weights: Array
    design: Array | None = None

    @property
    def reach(self) -> int:
        """M."""
        return len(self.weights) // 2


@dataclass(frozen=True, eq=False)
class Steps:
    """Excess steps of one plane.

    Attributes:
        excess: (..., S) inside less outside, in the plane's unit.
        sigma: (..., S) how large such a step is by chance at this part of the border.
    """

    excess: Array
    sigma: Array


@dataclass(frozen=True)
class StepStats:
    """The steps around a border, summarised.

    Attributes:
        common: the step that all segments share, in the plane's unit.
        common_z: the same over its standard error.
        gradient: change of the step from one side of the mask to the other, in the plane's unit.
        gradient_z: the same over its standard error.
        single: mean size of the steps of the most conspicuous quarter of the segments.
        single_z: root mean square of those steps over their sigma.
    """

    common: float = 0.0
    common_z: float = 0.0
    gradient: float = 0.0
    gradient_z: float = 0.0
    single: float = 0.0
    single_z: float = 0.0


def sharp_kernel() -> Kernel:
    """A step within one pixel: the difference at the border less the mean of its two neighbours."""
    return Kernel("step", np.array([-0.5, 1.0, -0.5]))


def line_kernel() -> Kernel:
    """A thin line along the border: its two bins against those three pixels further in and out."""
    return Kernel("line", 0.5 * np.array([1.0, 1.0, 1.0, 0.0, -1.0, -1.0, -1.0]))


def soft_kernel(ramp: Array) -> Kernel:
    """A step that is as wide as the mask's rim.

    Args:
        ramp: (bins,) mean of the mask's alpha in each bin, outside first.
    """
    rise = np.diff(ramp)
    middle = HALF_BAND_PX - 1
    wide = np.flatnonzero(np.abs(rise) > 0.02 * np.abs(rise).max())
    reach = int(min(MAX_REACH, max(3, np.abs(wide - middle).max() + 3)))
    offsets = np.arange(-reach, reach + 1)
    design = np.stack([rise[middle + offsets], np.ones(offsets.size), offsets / reach], axis=1)
    return Kernel("step", np.linalg.pinv(design)[0], design)


def steps(profile: Array, kernel: Kernel) -> Steps:
    """Excess steps from profiles (..., S, bins)."""
    change = np.diff(_fill(profile), axis=-1)
    excess = _apply(change, kernel, 0)
    sigma = _tried_elsewhere(change, kernel) if kernel.design is None else _residual(change, kernel)
    return Steps(excess, np.sqrt(sigma**2 + NOISE_FLOOR**2))


def fit(found: Steps, border: Border) -> StepStats:
    """Summarise the steps (S,) of one border."""
    usable = np.isfinite(found.excess) & np.isfinite(found.sigma)
    if not usable.any():
        return StepStats()
    excess, sigma = found.excess[usable], found.sigma[usable]
    weight = border.lengths[usable] / border.lengths[usable].mean() / sigma**2
    common = float((weight * excess).sum() / weight.sum())
    common_z = float(common * np.sqrt(weight.sum())) / _scatter(excess - common, weight)
    gradient, gradient_z = _gradient(excess - common, weight, border.centres[usable])
    single, single_z = _single(excess, sigma)
    return StepStats(common, common_z, gradient, gradient_z, single, single_z)


def _apply(change: Array, kernel: Kernel, offset: int) -> Array:
    first = HALF_BAND_PX - 1 + offset - kernel.reach
    return np.asarray(change[..., first : first + len(kernel.weights)] @ kernel.weights)


def _tried_elsewhere(change: Array, kernel: Kernel) -> Array:
    """Root mean square of the kernel's answers at distances where it does not see the border."""
    limit = HALF_BAND_PX - 1 - kernel.reach
    offsets = [offset for offset in range(-limit, limit + 1) if abs(offset) > kernel.reach]
    answers = np.stack([_apply(change, kernel, offset) for offset in offsets])
    return np.asarray(np.sqrt(np.square(answers).mean(axis=0)))


def _residual(change: Array, kernel: Kernel) -> Array:
    """Standard error of the fitted step from what the fit leaves over."""
    if kernel.design is None:
        raise ValueError("the kernel has no design")
    size, terms = kernel.design.shape
    first = HALF_BAND_PX - 1 - kernel.reach
    window = change[..., first : first + size]
    left = window - (window @ np.linalg.pinv(kernel.design).T) @ kernel.design.T
    variance = np.square(left).sum(axis=-1) / max(size - terms, 1)
    return np.asarray(np.sqrt(variance * np.square(kernel.weights).sum()))


def _single(excess: Array, sigma: Array) -> tuple[float, float]:
    scores = np.abs(excess) / sigma
    top = np.argsort(scores)[-max(1, int(np.ceil(scores.size / 4))) :]
    return float(np.mean(np.abs(excess[top]))), float(np.sqrt(np.mean(scores[top] ** 2)))


def _gradient(rest: Array, weight: Array, centres: Array) -> tuple[float, float]:
    """Weighted least squares of the steps on the place; the z of both coefficients together."""
    moment = (centres * weight[:, None]).T @ centres + 1e-6 * np.eye(2) * weight.sum()
    right = (centres * weight[:, None]).T @ rest
    slope = np.linalg.solve(moment, right)
    # Where segments lie on one side only, the slope is a guess: no larger than the steps themselves.
    size = 2 * min(float(np.linalg.norm(np.asarray(slope))), float(np.abs(rest).max()))
    return size, float(np.sqrt(max(float(right @ slope), 0.0)))


def _scatter(rest: Array, weight: Array) -> float:
    """How much more the segments disagree than their sigmas allow, at least 1.

    A fill that was shifted as a whole steps alike all around; a mask that follows a real contour does not, and
    must not pass for one. Source: the Birge ratio (Birge, 1932).
    """
    freedom = max(rest.size - 1, 1)
    return float(np.sqrt(max(float((weight * rest**2).sum()) / freedom, 1.0)))


def _fill(profile: Array) -> Array:
    """Empty bins take the value of their neighbour nearer to the border."""
    filled = profile.copy()
    for index in range(HALF_BAND_PX + 1, 2 * HALF_BAND_PX):
        empty = ~np.isfinite(filled[..., index])
        filled[..., index][empty] = filled[..., index - 1][empty]
    for index in range(HALF_BAND_PX - 2, -1, -1):
        empty = ~np.isfinite(filled[..., index])
        filled[..., index][empty] = filled[..., index + 1][empty]
    return filled
