"""A strength for every pixel of one call: each is denoised freely only from its own strength on.

Source: Levin & Fried 2023, "Differential Diffusion: Giving Each Pixel Its Strength" (arXiv 2306.00950). After every
step, what is still held is put back to the source, noised to the level that the step has reached.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from editcritic.refine.decoding import packed, source_latents

__all__ = ["DifferentialStrength"]

Array = NDArray[np.float32]


class DifferentialStrength:
    """What is done to the latents of one suspended call after each of its steps.

    Args:
        pipeline: a private copy. picture: what the call starts from, at working size. cells: (rows, columns) float32,
        the strength of every cell of the working size. strength: of the whole call. seed: of its noise.
    """

    def __init__(self, pipeline: Any, picture: Image.Image, cells: Array, strength: float, seed: int) -> None:
        self._pipeline, self._picture, self._seed = pipeline, picture, seed
        self._shares = torch.from_numpy(cells / np.float32(strength))[None, None]
        self._start: tuple[Tensor, Tensor] | None = None
        self._axes = 4

    def __call__(self, done: int, steps: int, latents: Tensor) -> Tensor:
        """The latents after `done` of `steps` executed steps, with what is still held put back."""
        left = steps - done
        held = torch.round(self._shares * steps) <= left  # by the executed steps that each cell takes part in
        if not held.any():
            return latents
        if self._start is None:
            self._start = self._encoded(latents)
        source, noise = self._start
        is_held = self._as_latents(self._spread(held, source)) > 0
        put_back = self._noised(self._as_latents(source), self._as_latents(noise), left)
        return torch.where(is_held, put_back.to(latents.dtype), latents)

    def _encoded(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The source, and the noise that pipelines draw first from this seed."""
        self._axes = latents.ndim
        source = source_latents(self._pipeline.vae, self._picture, latents.device).to(latents.dtype)
        generator = torch.Generator("cpu").manual_seed(self._seed)
        noise = torch.randn(source.shape, generator=generator, dtype=latents.dtype)
        return source, noise.to(latents.device)

    def _as_latents(self, spread: Tensor) -> Tensor:
        return packed(self._pipeline, spread, self._axes)

    @staticmethod
    def _spread(cells: Tensor, source: Tensor) -> Tensor:
        """(1, 1, rows, columns) over the source's latents, as numbers of their shape."""
        size = source.shape[-2:]
        flat = F.interpolate(cells.to(source.device, source.dtype), size=size)
        return flat.reshape(*[1] * (source.ndim - 2), *size).expand(source.shape).contiguous()

    def _noised(self, source: Tensor, noise: Tensor, left: int) -> Tensor:
        """The source, as noisy as latents with so many steps left are."""
        if left == 0:
            return source
        scheduler = self._pipeline.scheduler
        level = scheduler.timesteps[-left:][:1]
        if hasattr(scheduler, "scale_noise"):
            noised: Tensor = scheduler.scale_noise(source, level, noise)
        else:
            noised = scheduler.add_noise(source, noise, level)
        return noised
