"""How the tabletop engine's 32-channel cells look like the 4-channel latents that the stock inpainting pipeline takes.

`StableDiffusionInpaintPipeline` runs U-Nets with 9 input channels (4 noisy, 1 mask, 4 masked source) and no others.
So a cell of 32 values is laid out as a 4x4 tile of 4 channels, half of them zero; the denoiser unpacks on entry and
packs on exit. The pipeline itself stays as it is: noise, guidance, scheduler steps and masks do not care how values
are laid out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["CELL_CHANNELS", "PACKED_CHANNELS", "TILE", "pack", "unpack"]

CELL_CHANNELS = 32
PACKED_CHANNELS = 4
TILE = 4


def pack(cells: Tensor) -> Tensor:
    """Cells (B, 32, h, w) as latents (B, 4, 4h, 4w)."""
    spare = PACKED_CHANNELS * TILE * TILE - cells.shape[1]
    return F.pixel_shuffle(F.pad(cells, (0, 0, 0, 0, 0, spare)), TILE)


def unpack(latents: Tensor) -> Tensor:
    """Latents (B, 4, 4h, 4w) as cells (B, 32, h, w); what lies in the spare half is ignored."""
    return F.pixel_unshuffle(latents, TILE)[:, :CELL_CHANNELS]
