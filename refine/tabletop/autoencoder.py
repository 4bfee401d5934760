"""The tabletop engine's latent space: principal components of 8x8 RGB patches, and a small decoder that
knows its neighbours.

The encoder is linear, so it needs no training, cannot misread a photograph, and a latent cell outside the mask says
nothing about pixels inside it. The decoder starts as the exact transpose and learns the rest from the eight cells
round each one: detail that the components leave out, and smooth borders between cells. Everything happens at latent
resolution, so a picture decodes in milliseconds. diffusers' own decoders cannot start there: they enlarge by
repetition, and a repeated pixel does not know which corner of its cell it is. Hence a class of our own;
`model_index.json` names it by its import path, no remote code involved.

The pipeline sees these cells packed as 4-channel latents (`packing.py`). Components are scaled half way to unit
variance (std proportional to lambda^(1/4)): coarse structure still emerges first while denoising, yet fine detail
is not drowned at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from numpy.typing import NDArray
from torch import Tensor, nn

from editcritic.refine.tabletop.packing import CELL_CHANNELS, PACKED_CHANNELS, pack, unpack
from editcritic.refine.tabletop.world import CELL

__all__ = ["PatchAutoencoder", "blank_latent", "fit_autoencoder", "principal_patches"]

_PATCH = 3 * CELL * CELL


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures (B, 3, H, W) in [-1, 1] to latents (B, 4, H / 2, W / 2) and back; H and W are multiples of 8.

    It answers like `AutoencoderTiny`: `encode(x).latents` is deterministic, `decode(z).sample` is the picture.
    `block_out_channels` only tells pipelines that latents are half the size of pictures.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = PACKED_CHANNELS,
        width: int = 128,
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
        block_out_channels: tuple[int, ...] = (1, 1),
        force_upcast: bool = False,
    ) -> None:
        super().__init__()
        self.analysis = nn.Conv2d(_PATCH, CELL_CHANNELS, 1)
        self.synthesis = nn.Conv2d(CELL_CHANNELS, _PATCH, 1)
        last = nn.Conv2d(width, _PATCH, 3, padding=1)
        self.neighbours = nn.Sequential(
            nn.Conv2d(CELL_CHANNELS, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 1),
            nn.SiLU(),
            last,
        )
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def to_cells(self, pictures: Tensor) -> Tensor:
        """Scaled cells (B, 32, H / 8, W / 8), about unit size, of pictures (B, 3, H, W) in [-1, 1]."""
        cells: Tensor = self.analysis(F.pixel_unshuffle(pictures, CELL)) * self.config.scaling_factor
        return cells

    def from_cells(self, cells: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of scaled cells (B, 32, H / 8, W / 8)."""
        plain = self.synthesis(cells / self.config.scaling_factor)
        return F.pixel_shuffle(plain + self.neighbours(cells), CELL)

    def encode(self, x: Tensor, return_dict: bool = True) -> Any:
        """Latents (B, 4, H / 2, W / 2) of pictures (B, 3, H, W) in [-1, 1]; not yet times `scaling_factor`."""
        latents = pack(self.to_cells(x)) / self.config.scaling_factor
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None) -> Any:
        """Pictures (B, 3, H, W) in [-1, 1] of latents; `generator` is there for pipelines and not used."""
        del generator
        picture = self.from_cells(unpack(z) * self.config.scaling_factor)
        return DecoderOutput(sample=picture) if return_dict else (picture,)

    def forward(self, sample: Tensor) -> Tensor:
        """There and back again."""
        return self.from_cells(self.to_cells(sample))


def principal_patches(images: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
    """Principal components of the 8x8 patches of images (N, H, W, 3) in [0, 1], in the range [-1, 1] that models see.

    Returns mean (192,), components (192, CELL_CHANNELS) and eigenvalues (CELL_CHANNELS,), patch order as
    `pixel_unshuffle`.
    """
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).mul(2).sub(1)
    patches = F.pixel_unshuffle(pixels, CELL).permute(0, 2, 3, 1).reshape(-1, _PATCH).double()
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    return mean, vectors.flip(1)[:, :CELL_CHANNELS], values.flip(0)[:CELL_CHANNELS]


@torch.no_grad()
def fit_autoencoder(images: NDArray[np.float32]) -> PatchAutoencoder:
    """An autoencoder fitted to images (N, H, W, 3) in [0, 1]; its decoder is the exact transpose until it is trained.

    Latents times `scaling_factor` have unit mean square on such images.
    """
    mean, components, values = principal_patches(images)
    spread = 0.5 * (values / values[0]) ** 0.25
    vae: PatchAutoencoder = PatchAutoencoder(scaling_factor=float(1 / spread.square().mean().sqrt()))
    gain = spread / values.sqrt()
    fitted = {
        "analysis.weight": (components * gain).T[..., None, None],
        "analysis.bias": -(mean @ components) * gain,
        "synthesis.weight": (components / gain)[..., None, None],
        "synthesis.bias": mean,
    }
    vae.load_state_dict(vae.state_dict() | fitted)
    return vae


@torch.no_grad()
def blank_latent(vae: PatchAutoencoder) -> Tensor:
    """The scaled cell (32,) of a mid-grey patch: what the pipeline puts where pixels are masked."""
    return vae.to_cells(torch.zeros(1, 3, CELL, CELL))[0, :, 0, 0]
