"""Scenes for training, encoded once and re-used a few times: drawing one costs as much as a training step on it.

The pool holds latents, not pictures; each step replaces some of it, so no scene is seen for long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from editcritic.refine.tabletop.autoencoder import PatchAutoencoder
from editcritic.refine.tabletop.packing import CELL_CHANNELS
from editcritic.refine.tabletop.recipe import TOKENS
from editcritic.refine.tabletop.world import CELL, SIDE, Scene, cells, draw_scene

__all__ = ["Pool"]


@dataclass
class _Slots:
    source: Tensor  # (N, C, h, w) float16, scaled latents
    target: Tensor
    mask: Tensor  # (N, 1, h, w) bool, True where latents are to be made
    tokens: Tensor  # (N, TOKENS) int64


class Pool:
    """A rolling store of encoded scenes. `draw` gives a batch, `renew` replaces the oldest ones.

    vae: its encoder defines the latents. seed: names the whole stream of scenes.
    """

    def __init__(
        self, photos: list[Image.Image], vae: PatchAutoencoder, tokenizer: CLIPTokenizer, seed: int, size: int
    ) -> None:
        self._photos, self._vae, self._tokenizer = photos, vae, tokenizer
        self._rng = np.random.default_rng(seed)
        grid = (CELL_CHANNELS, SIDE // CELL, SIDE // CELL)
        self._slots = _Slots(
            torch.zeros(size, *grid, dtype=torch.float16),
            torch.zeros(size, *grid, dtype=torch.float16),
            torch.zeros(size, 1, *grid[1:], dtype=torch.bool),
            torch.zeros(size, TOKENS, dtype=torch.long),
        )
        self._size, self._filled, self._next = size, 0, 0

    def scenes(self, count: int) -> list[Scene]:
        """Fresh scenes, not stored."""
        picks = self._rng.integers(0, len(self._photos), count)
        return [draw_scene(self._photos[i], self._rng) for i in picks]

    @torch.no_grad()
    def encode(self, images: list[NDArray[np.float32]]) -> Tensor:
        """Scaled cells (N, C, 16, 16) of pictures (128, 128, 3) in [0, 1]."""
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).mul(2).sub(1)
        return self._vae.to_cells(pixels.contiguous())

    def renew(self, count: int) -> None:
        """Draw `count` new scenes into the oldest places."""
        fresh = self.scenes(count)
        where = (torch.arange(count) + self._next) % self._size
        slots = self._slots
        slots.source[where] = self.encode([scene.source for scene in fresh]).half()
        slots.target[where] = self.encode([scene.target for scene in fresh]).half()
        slots.mask[where] = torch.from_numpy(np.stack([cells(scene.mask) for scene in fresh]))[:, None]
        words = self._tokenizer(
            [scene.caption for scene in fresh], padding="max_length", max_length=TOKENS, truncation=True
        )
        slots.tokens[where] = torch.tensor(words.input_ids)
        self._next = (self._next + count) % self._size
        self._filled = min(self._size, self._filled + count)

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch: source and target (B, C, 16, 16) float32, mask (B, 1, 16, 16) float32 in {0, 1}, tokens
        (B, TOKENS)."""
        pick = torch.from_numpy(self._rng.integers(0, self._filled, count))
        slots = self._slots
        return (
            slots.source[pick].float(),
            slots.target[pick].float(),
            slots.mask[pick].float(),
            slots.tokens[pick],
        )
