"""Stage 1: the autoencoder. Its encoder is fitted in one go, its decoder trained on scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from editcritic.refine.tabletop.autoencoder import PatchAutoencoder, fit_autoencoder
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.runs import Clock, Options, learning_rate, report, restore, save, take_step
from editcritic.refine.tabletop.world import draw_scene

__all__ = ["base_autoencoder", "decoder_loss", "train_decoder", "trained_autoencoder"]

_FIT_ON = 1500  # scenes: some 400,000 patches for 192 dimensions
_STOCK = 400  # pictures held while training
_FRESH = 4  # of them redrawn per step
_NOISE = 0.15  # latents get noise of up to this size, so that the decoder smooths what the U-Net leaves
_SLOPES = (
    0.5  # weight of the error of differences between neighbours: keeps edges crisp and cell borders invisible
)


def base_autoencoder(options: Options, photos: list[Image.Image]) -> PatchAutoencoder:
    """The fitted autoencoder before its decoder is trained; the same for all stages of a run."""
    folder = options.checkpoints / "vae"
    if not folder.exists():
        rng = np.random.default_rng(options.seed)
        picks = rng.integers(0, len(photos), _FIT_ON)
        images = np.stack([draw_scene(photos[i], rng).target for i in picks])
        torch.manual_seed(options.seed)
        fit_autoencoder(images).save_pretrained(folder)
    vae: PatchAutoencoder = PatchAutoencoder.from_pretrained(folder)
    return vae


def trained_autoencoder(options: Options) -> PatchAutoencoder:
    """The newest autoencoder of a run, for export."""
    vae: PatchAutoencoder = PatchAutoencoder.from_pretrained(options.checkpoints / "vae")
    vae.load_state_dict(restore(options.checkpoints / "decoder.pt").get("vae", vae.state_dict()))
    return vae


def decoder_loss(vae: PatchAutoencoder, pictures: Tensor) -> Tensor:
    """How far pictures (B, 3, H, W) in [-1, 1] come back from noisy latents: absolute and squared error,
    values and slopes."""
    with torch.no_grad():
        cells = vae.to_cells(pictures)
        cells = cells + _NOISE * torch.rand(len(pictures), 1, 1, 1) * torch.randn_like(cells)
    error = vae.from_cells(cells) - pictures
    slope = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 2 * error.square().mean() + _SLOPES * slope


def _pictures(stock: NDArray[np.float32], count: int, rng: np.random.Generator) -> Tensor:
    pick = torch.from_numpy(stock[rng.integers(0, len(stock), count)])
    return pick.permute(0, 3, 1, 2).contiguous().mul(2).sub(1)


def _redraw(
    stock: NDArray[np.float32], photos: list[Image.Image], rng: np.random.Generator, first: int
) -> None:
    for place in range(first, min(first + _FRESH, len(stock))):
        stock[place] = draw_scene(photos[rng.integers(len(photos))], rng).target


def train_decoder(options: Options) -> None:
    """Train the decoder for the planned time; resumes from `decoder.pt`."""
    photos, path = read_photos(options.images), options.checkpoints / "decoder.pt"
    vae, state = base_autoencoder(options, photos), restore(path)
    trained: list[Any] = [*vae.synthesis.parameters(), *vae.neighbours.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=options.rate, betas=(0.9, 0.99), weight_decay=0.0)
    if "vae" in state:
        vae.load_state_dict(state["vae"])
        optimiser.load_state_dict(state["optimiser"])
    step, clock = state["step"], Clock(state["seconds"], options.minutes, interval=60)
    rng = np.random.default_rng([options.seed, step])
    stock = np.stack([draw_scene(photos[rng.integers(len(photos))], rng).target for _ in range(_STOCK)])
    while clock.progress < 1:
        _redraw(stock, photos, rng, first=_FRESH * step % _STOCK)
        loss = decoder_loss(vae, _pictures(stock, options.batch, rng))
        take_step(optimiser, loss, learning_rate(clock.progress, options.rate))
        step += 1
        if step % 50 == 0:
            report(options.out, stage="decoder", step=step, seconds=clock.seconds, loss=loss.item())
        if clock.save_is_due():
            save(
                path,
                {
                    "vae": vae.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "seconds": clock.seconds,
                    "step": step,
                },
            )
