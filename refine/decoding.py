"""Pictures from latents, cheaply: for previews while a candidate is still noise.

Three ways, best first that is affordable: a tiny autoencoder of the same latent space (TAESD and its kin),
the engine's own decoder when it is small, and a linear map from one latent cell to one colour that is
fitted to the engine's own encoder.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from editcritic.v1.errors import InvalidInput

__all__ = ["LatentDecoder", "fit_colours", "packed", "source_latents", "to_vae_space", "unpacked"]

PreviewKind = Literal["auto", "tiny", "full", "linear"]

_CHEAP_DECODER = 8_000_000  # parameters up to which the full decoder takes no longer than a denoising step
_PROBES = 12
_PROBE_CELLS = 16


def unpacked(pipeline: Any, latents: Tensor, height: int, width: int) -> Tensor:
    """Latents as (B, C, h, w) or (B, C, 1, h, w): transformers denoise rows of 2x2 patches (B, tokens, 4C)."""
    if latents.ndim != 3:
        return latents
    spread: Tensor = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
    return spread


def packed(pipeline: Any, latents: Tensor, axes: int) -> Tensor:
    """Latents (B, C, h, w) or (B, C, 1, h, w) as denoisers take them: in rows of patches where they have 3 axes."""
    if axes != 3:
        return latents
    height, width = latents.shape[-2:]
    rows: Tensor = pipeline._pack_latents(latents, *latents.shape[:2], height, width)
    return rows


def _scaling(vae: Any, latents: Tensor) -> tuple[Any, Any]:
    """Factor and shift of the denoiser's space over the VAE's: per channel where that has means, else its two."""
    config = vae.config
    if getattr(config, "latents_mean", None) is not None and latents.ndim == 5:
        shape = (1, -1, 1, 1, 1)
        mean, std = (
            torch.tensor(v).view(shape).to(latents) for v in (config.latents_mean, config.latents_std)
        )
        return 1 / std, mean
    return getattr(config, "scaling_factor", 1.0), getattr(config, "shift_factor", None) or 0.0


def to_vae_space(vae: Any, latents: Tensor) -> Tensor:
    """Undo the scaling that denoisers work in."""
    factor, shift = _scaling(vae, latents)
    restored: Tensor = latents / factor + shift
    return restored


@torch.no_grad()
def source_latents(vae: Any, picture: Image.Image, device: torch.device) -> Tensor:
    """What a denoiser sees of a picture: (1, C, h, w) or (1, C, 1, h, w) float32, encoded by the mode."""
    pixels = torch.from_numpy(np.array(picture, np.float32)).movedim(-1, 0)[None] / 127.5 - 1
    # Some encoders overflow in half precision, and say so.
    is_raised = next(vae.parameters()).dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if is_raised:
        vae.to(torch.float32)
    latents = _encoded(vae, pixels.to(device))
    if is_raised:
        vae.to(torch.float16)
    factor, shift = _scaling(vae, latents)
    scaled: Tensor = (latents - shift) * factor
    return scaled


def _encoded(vae: Any, pictures: Tensor) -> Tensor:
    """Latents in the VAE's own space, by the mode, of pictures (B, 3, H, W) in [-1, 1]; float32."""
    pictures = pictures.to(next(vae.parameters()).dtype)
    try:
        answer = vae.encode(pictures)
    except (RuntimeError, ValueError, IndexError):
        answer = vae.encode(pictures[:, :, None])  # video autoencoders want a time axis
    latents: Tensor = answer.latents if hasattr(answer, "latents") else answer.latent_dist.mode()
    return latents.float()


def _probes(side: int) -> Tensor:
    """Smooth random pictures (12, 3, side, side) in [-1, 1] of every colour: what a colour map is fitted to."""
    generator = torch.Generator().manual_seed(7)
    pictures = torch.zeros(_PROBES, 3, side, side)
    for cells in (2, 5, 11):
        noise = torch.randn(_PROBES, 3, cells, cells, generator=generator)
        pictures += F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)
    return torch.tanh(pictures * 0.8)


@torch.no_grad()
def fit_colours(vae: Any, factor: int) -> Tensor:
    """The linear map (C + 1, 3) from a latent cell of the VAE's own space, plus 1, to the mean colour of
    its pixels in [-1, 1].

    factor: pixels per cell and side. Fitted by least squares to the VAE's own encoder; takes milliseconds
    on small pictures.
    """
    pictures = _probes(_PROBE_CELLS * factor)
    latents = _encoded(vae, pictures.to(next(vae.parameters()).device)).cpu()
    latents = latents[:, :, 0] if latents.ndim == 5 else latents
    colours = F.adaptive_avg_pool2d(pictures, (latents.shape[-2], latents.shape[-1]))
    cells = latents.movedim(1, -1).reshape(-1, latents.shape[1])
    rows = torch.cat([cells, torch.ones(len(cells), 1)], dim=1)
    # A little ridge: random or dead channels would make the system singular.
    square = rows.T @ rows + 1e-4 * len(rows) * torch.eye(rows.shape[1])
    solved: Tensor = torch.linalg.solve(square, rows.T @ colours.movedim(1, -1).reshape(-1, 3))
    return solved


class LatentDecoder:
    """Decodes predicted clean latents of one pipeline to pictures.

    Args:
        pipeline: where latents come from. tiny: an `AutoencoderTiny` of the same latent space, or None.
        kind: force one way; "auto" takes the tiny autoencoder, else a small decoder in full, else the linear map.

    Raises: InvalidInput for a way that there is not.
    """

    def __init__(self, pipeline: Any, tiny: Any = None, kind: PreviewKind = "auto") -> None:
        if kind not in ("auto", "tiny", "full", "linear"):
            raise InvalidInput(f"preview {kind!r}: expected auto, tiny, full or linear")
        if kind == "tiny" and tiny is None:
            raise InvalidInput(
                "preview 'tiny' needs an AutoencoderTiny of the same latent space: name it by tiny="
            )
        self._pipeline, self._tiny = pipeline, tiny
        self._colours: Tensor | None = None
        self.kind = self._chosen() if kind == "auto" else kind

    def _chosen(self) -> PreviewKind:
        if self._tiny is not None:
            return "tiny"
        size = sum(parameter.numel() for parameter in self._pipeline.vae.parameters())
        return "full" if size <= _CHEAP_DECODER else "linear"

    @torch.no_grad()
    def __call__(self, latents: Tensor, height: int, width: int, in_full: bool = False) -> Tensor:
        """One picture (height, width, 3) float32 in [0, 1] on the CPU, of latents with a batch of one.

        in_full: by the decoder of the engine, whatever `kind` is.
        """
        spread = unpacked(self._pipeline, latents, height, width)
        ways = {"tiny": self._by_tiny, "full": self._in_full, "linear": self._by_colours}
        picture = ways["full" if in_full else self.kind](spread).float().cpu()
        if picture.shape[-2:] != (height, width):
            picture = F.interpolate(picture, size=(height, width), mode="bicubic", align_corners=False)
        return (picture[0] / 2 + 0.5).clamp(0, 1).movedim(0, -1).contiguous()

    def _by_tiny(self, latents: Tensor) -> Tensor:
        flat = latents[:, :, 0] if latents.ndim == 5 else latents
        picture: Tensor = self._tiny.decode(flat.to(self._tiny.dtype)).sample
        return picture

    def _in_full(self, latents: Tensor) -> Tensor:
        vae = self._pipeline.vae
        picture: Tensor = vae.decode(to_vae_space(vae, latents).to(vae.dtype), return_dict=False)[0]
        return picture[:, :, 0] if picture.ndim == 5 else picture

    def _by_colours(self, latents: Tensor) -> Tensor:
        if self._colours is None:
            self._colours = fit_colours(self._pipeline.vae, self._pipeline.vae_scale_factor)
        cells = to_vae_space(self._pipeline.vae, latents).float().cpu()
        cells = cells[:, :, 0] if cells.ndim == 5 else cells
        picture: Tensor = torch.einsum("bchw,cr->brhw", cells, self._colours[:-1])
        return picture + self._colours[-1][:, None, None]
