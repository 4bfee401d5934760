"""The tabletop engine's denoiser: a stock U-Net on cells, behind the face of a 9-channel inpainting U-Net.

Four things make a few million parameters enough. The masked cells are first filled smoothly from their surroundings,
so the network paints what differs from a plain continuation. Known cells are handed through instead of being learned.
Every cell is told where it lies as seen from the place to paint at. And the mean of the prompt's words joins the time
embedding, so that every layer knows what is asked for, not only those with attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from editcritic.refine.tabletop.packing import CELL_CHANNELS, PACKED_CHANNELS, TILE, pack, unpack
from editcritic.refine.tabletop.seat import seat_coordinates

__all__ = ["TabletopDenoiser", "smooth_fill"]

_COORDINATES = 2


def smooth_fill(cells: Tensor, mask: Tensor) -> Tensor:
    """Masked cells continued from their surroundings: pull-push interpolation (Gortler et al., The
    Lumigraph, 1996, section 3.4).

    cells (B, C, h, w); mask (B, 1, h, w) in {0, 1}, 1 where unknown. Returns (B, C, h, w), equal to `cells`
    where mask is 0; all zero where nothing is known.
    """
    weight = 1 - mask
    levels = [(cells * weight, weight)]
    while min(levels[-1][1].shape[-2:]) > 1:
        total, weight = levels[-1]
        pooled = [F.avg_pool2d(part, 2, ceil_mode=True) for part in (total, weight)]
        full = pooled[1].clamp(min=1e-6)
        weight = (4 * pooled[1]).clamp(max=1)
        levels.append((pooled[0] / full * weight, weight))
    filled = levels[-1][0] / levels[-1][1].clamp(min=1e-6)
    for total, weight in reversed(levels[:-1]):
        filled = F.interpolate(filled, size=weight.shape[-2:], mode="bilinear", align_corners=False)
        filled = total + (1 - weight) * filled
    return filled


def _coordinates(mask: Tensor) -> Tensor:
    """Where cells lie as seen from the place to paint at: (B, 2, h, w) for mask (B, 1, h, w) in {0, 1}."""
    holes = (mask[:, 0] > 0.5).cpu().numpy()
    seen = np.stack([seat_coordinates(hole) for hole in holes])
    return torch.from_numpy(seen).to(mask.device, mask.dtype)


class TabletopDenoiser(ModelMixin, ConfigMixin):
    """Predicts clean latents from noisy ones, a mask, the masked source and a prompt.

    `cells` is a stock U-Net on an (h, w) grid of cells: 32 noisy, 32 smoothly filled source, mask and coordinates
    in, 32 clean channels out, added to the fill. Attention sits at the two lower levels, with few wide heads: on a
    CPU many narrow heads cost more than all convolutions.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 2 * PACKED_CHANNELS + 1,
        out_channels: int = PACKED_CHANNELS,
        sample_size: int = 64,
        channels: tuple[int, ...] = (128, 192, 256),
        cross_attention_dim: int = 96,
        heads: int = 2,
        time_cond_proj_dim: int | None = None,
    ) -> None:
        super().__init__()
        lower = len(channels) - 1
        self.cells = UNet2DConditionModel(
            sample_size=sample_size // TILE,
            in_channels=2 * CELL_CHANNELS + 1 + _COORDINATES,
            out_channels=CELL_CHANNELS,
            down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * lower),
            up_block_types=(*("CrossAttnUpBlock2D",) * lower, "UpBlock2D"),
            block_out_channels=channels,
            layers_per_block=1,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=heads,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=cross_attention_dim,
        )

    def clean_cells(
        self,
        noisy: Tensor,
        mask: Tensor,
        kept: Tensor,
        timestep: Tensor,
        words: Tensor,
        quality: Tensor | None = None,
    ) -> Tensor:
        """Predicted clean cells (B, 32, h, w).

        noisy, kept: (B, 32, h, w); kept is read where mask (B, 1, h, w) in {0, 1} is 0. words: (B, L,
        cross_attention_dim). quality: (B, K, cross_attention_dim), read where a `QualityAdapter` is attached.
        """
        filled = smooth_fill(kept, mask)
        inputs = torch.cat([noisy * mask, filled, mask, _coordinates(mask)], dim=1)
        # Under this name diffusers hands tokens on to whichever attention knows them.
        beside = None if quality is None else {"ip_hidden_states": quality}
        change: Tensor = self.cells(
            inputs, timestep, words, class_labels=words.mean(1), cross_attention_kwargs=beside
        ).sample
        return filled + mask * change

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        return_dict: bool = True,
        quality: Tensor | None = None,
        **_unused: Any,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """Predicted clean latents (B, 4, H, W) of sample (B, 9, H, W): noisy latents, mask, latents of the
        masked source. quality: as in `clean_cells`."""
        noisy, mask, kept = torch.split(sample, [PACKED_CHANNELS, 1, PACKED_CHANNELS], dim=1)
        mask = F.max_pool2d(mask, TILE)
        cells = self.clean_cells(unpack(noisy), mask, unpack(kept), timestep, encoder_hidden_states, quality)
        clean = pack(cells)
        return UNet2DConditionOutput(sample=clean) if return_dict else (clean,)
