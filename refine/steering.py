"""A critic's gradient moves the predicted clean latents of the last steps towards a higher score. Off by default.

Known weakness: the score that is climbed rises whether or not the picture gets better (reward hacking). Whoever turns
it on has to judge by another critic.

Sources: universal guidance (Bansal et al. 2302.07121) and DOODL (Wallace et al. 2303.13703) climb a score of the
predicted clean picture; that its gradient may skip the denoiser is MPGD (He et al. 2311.16424).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from editcritic.refine.geometry import Frame

__all__ = ["DifferentiableCritic", "Layer", "steer"]

Score = Callable[[Tensor], Tensor]
_FROM = 0.75  # share of the steps from which a preview shows texture, which is what is left to decide
_REACH = 0.03  # of a latent's spread, per step at full strength: enough to climb, too little to repaint


class DifferentiableCritic(Protocol):
    """A critic whose score can be climbed. `plugin` composes one; the loop never judges by it."""

    def open(
        self,
        source: NDArray[np.uint8],
        mask: NDArray[np.float32],
        blend: NDArray[np.float32],
        place: tuple[slice, slice],
    ) -> Score:
        """The score of an edit as a function of what stands at `place` (rows, columns) of the source.

        That is (3, h, w) float32 in [0, 1], already blended; the answer is a scalar, higher is better.
        """


class Layer:
    """What an engine's picture shows of the edit, differentiable: `geometry.composite` without its rounding."""

    def __init__(self, source: NDArray[np.uint8], blend: NDArray[np.float32], frame: Frame) -> None:
        (above, _), (before, _) = frame.margins
        rows, columns = (stretch.stop - stretch.start for stretch in frame.place)
        self._rows = _resampling(frame.height, frame.bottom - frame.top)[above : above + rows]
        self._columns = _resampling(frame.width, frame.right - frame.left)[before : before + columns]
        self._below = torch.from_numpy(source[frame.place].astype(np.float32) / 255).permute(2, 0, 1)
        self._weight = torch.from_numpy(np.ascontiguousarray(blend[frame.place], np.float32))

    def __call__(self, picture: Tensor) -> Tensor:
        """(3, h, w) at the source's size, of a picture (3, height, width) in [0, 1] at the working size."""
        back = (self._rows @ picture @ self._columns.T).clamp(0, 1)
        return self._below + self._weight * (back - self._below)


def _resampling(length: int, wanted: int) -> Tensor:
    """The matrix (wanted, length) of Pillow's bicubic resampling along one axis."""
    scaled = Image.fromarray(np.eye(length, dtype=np.float32)).resize(
        (length, wanted), Image.Resampling.BICUBIC
    )
    return torch.from_numpy(np.array(scaled))


def steer(scheduler: Any, score: Callable[[Tensor], Tensor], strength: float) -> None:
    """Wrap the `step` of a private scheduler whose model predicts clean latents.

    score: of predicted clean latents (1, C, H, W), a scalar. strength: above 0, at most 1.
    """
    inner = scheduler.step

    @functools.wraps(inner)
    def step(model_output: Tensor, timestep: Any, *rest: Any, **options: Any) -> Any:
        done = int((scheduler.timesteps > timestep).sum()) + 1
        if done > _FROM * len(scheduler.timesteps):
            model_output = _climbed(model_output, score, strength * _REACH)
        return inner(model_output, timestep, *rest, **options)

    scheduler.step = step


def _climbed(latents: Tensor, score: Callable[[Tensor], Tensor], reach: float) -> Tensor:
    """Latents moved uphill by `reach` in root mean square; as they are where the score is flat."""
    with torch.enable_grad():
        moving = latents.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(moving), moving)
    size = gradient.square().mean().sqrt()
    if not torch.isfinite(size) or size == 0:
        return latents
    return latents + reach * gradient / size
