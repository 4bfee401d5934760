"""Stage 2: text encoder and denoiser together, on pooled scenes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextModel

from editcritic.refine.tabletop.autoencoder import blank_latent
from editcritic.refine.tabletop.decoder import base_autoencoder
from editcritic.refine.tabletop.denoiser import TabletopDenoiser
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.recipe import make_scheduler, make_text_encoder, make_tokenizer
from editcritic.refine.tabletop.runs import Clock, Options, learning_rate, report, restore, save, take_step
from editcritic.refine.tabletop.scenes import Pool

__all__ = ["averaged_models", "denoising_loss", "train_denoiser"]

_DETAIL = 10.0  # cap of the velocity weight 1 / sigma^2 (min-SNR weighting, Hang et al. 2303.09556)
_REUSE = 4  # times that a scene is seen, on average: drawing one is not free
_FIRST_SCENES = 2048


def denoising_loss(
    denoiser: TabletopDenoiser,
    words: Tensor,
    batch: tuple[Tensor, Tensor, Tensor],
    blank: Tensor,
    alphas: Tensor,
    noise: Tensor,
    steps: Tensor,
    quality: Tensor | None = None,
) -> Tensor:
    """Weighted squared error of the predicted clean cells inside the mask; scalar.

    batch: source, target (B, C, h, w), mask (B, 1, h, w). blank: (C,) cell of masked pixels. alphas:
    cumulative products by step. noise (B, C, h, w); steps (B,) int64. quality: tokens, as in
    `TabletopDenoiser.clean_cells`. Velocity weighting after Salimans & Ho 2202.00512.
    """
    source, target, mask = batch
    kept = source * (1 - mask) + blank[None, :, None, None] * mask
    alpha = alphas[steps][:, None, None, None]
    noisy = alpha.sqrt() * target + (1 - alpha).sqrt() * noise
    guess = denoiser.clean_cells(noisy, mask, kept, steps, words, quality).float()
    error = ((guess - target).square() * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * target.shape[1] + 1)
    weight = (1 / (1 - alphas[steps])).clamp(1, _DETAIL)
    return (weight * error).mean()


class _Average:
    """Exponential moving average of parameters; short memory at first, so early checkpoints are useful."""

    def __init__(self, modules: list[torch.nn.Module]) -> None:
        self._modules, self.steps = modules, 0
        self.values = [{k: v.detach().clone() for k, v in m.state_dict().items()} for m in modules]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(0.999, (1 + self.steps) / (20 + self.steps))
        for module, values in zip(self._modules, self.values, strict=True):
            state = module.state_dict()
            floats = [name for name, value in state.items() if value.is_floating_point()]
            torch._foreach_lerp_(
                [values[name] for name in floats], [state[name] for name in floats], 1 - decay
            )


class _Trainee:
    """The models of a run with their optimiser and running average, and how they go to and from disk."""

    def __init__(self, options: Options) -> None:
        torch.manual_seed(options.seed)
        self.denoiser = TabletopDenoiser().to(options.device, memory_format=torch.channels_last)
        self.text = make_text_encoder(make_tokenizer()).to(options.device)
        parameters = [*self.denoiser.parameters(), *self.text.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.average = _Average([self.denoiser, self.text])

    def restore(self, path: Path) -> tuple[float, int]:
        """Load the checkpoint when there is one; trained seconds and steps so far."""
        state = restore(path)
        if "modules" in state:
            self.denoiser.load_state_dict(state["modules"][0])
            self.text.load_state_dict(state["modules"][1])
            self.optimiser.load_state_dict(state["optimiser"])
            self.average.values, self.average.steps = state["average"], state["step"]
        return state["seconds"], state["step"]

    def save(self, path: Path, seconds: float, step: int) -> None:
        """Write everything that `restore` needs."""
        save(
            path,
            {
                "modules": [self.denoiser.state_dict(), self.text.state_dict()],
                "optimiser": self.optimiser.state_dict(),
                "average": self.average.values,
                "seconds": seconds,
                "step": step,
            },
        )


def _loss(trainee: _Trainee, pool: Pool, blank: Tensor, alphas: Tensor, options: Options) -> Tensor:
    """The loss on one batch of the pool, in bfloat16 where that is safe."""
    pool.renew(options.batch // _REUSE)
    source, target, mask, tokens = (part.to(options.device) for part in pool.draw(options.batch))
    steps = torch.randint(0, len(alphas), (options.batch,), device=options.device)
    with torch.autocast(torch.device(options.device).type, torch.bfloat16):
        words = trainee.text(tokens).last_hidden_state
        return denoising_loss(
            trainee.denoiser, words, (source, target, mask), blank, alphas, torch.randn_like(target), steps
        )


def train_denoiser(options: Options) -> None:
    """Train for the planned time; resumes from `denoiser.pt`. The average of the weights is what gets exported."""
    photos, path, trainee = (
        read_photos(options.images),
        options.checkpoints / "denoiser.pt",
        _Trainee(options),
    )
    vae = base_autoencoder(options, photos)
    seconds, step = trainee.restore(path)
    pool = Pool(photos, vae, make_tokenizer(), options.seed + 2 + step, options.pool)
    pool.renew(min(options.pool, _FIRST_SCENES))
    if options.compiled:
        trainee.denoiser.cells.compile()
    blank, alphas = blank_latent(vae).to(options.device), make_scheduler().alphas_cumprod.to(options.device)
    clock, recent = Clock(seconds, options.minutes, interval=120), 0.0
    while clock.progress < 1:
        loss = _loss(trainee, pool, blank, alphas, options)
        take_step(trainee.optimiser, loss, learning_rate(clock.progress, options.rate))
        trainee.average.update()
        step += 1
        recent = 0.98 * recent + 0.02 * loss.item() if recent else loss.item()
        if step % 50 == 0:
            report(options.out, stage="denoiser", step=step, seconds=clock.seconds, loss=recent)
        if clock.save_is_due():
            trainee.save(path, clock.seconds, step)


def averaged_models(options: Options) -> tuple[TabletopDenoiser, CLIPTextModel]:
    """Denoiser and text encoder with the averaged weights of a run, for export."""
    trainee = _Trainee(options)
    trainee.restore(options.checkpoints / "denoiser.pt")
    trainee.denoiser.load_state_dict(trainee.average.values[0])
    trainee.text.load_state_dict(trainee.average.values[1])
    return trainee.denoiser, trainee.text
