"""Train the quality adapter: `python -m editcritic.refine.tabletop.quality_training --samples DIR --out DIR`.

Samples are scored pictures, as `editcritic.plugin.quality_samples` writes them. The base network stays as it is; the
adapter learns to denoise each picture under its own score. A stopped run goes on from `OUT/checkpoints`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editcritic.refine.tabletop.autoencoder import blank_latent
from editcritic.refine.tabletop.engine import load
from editcritic.refine.tabletop.quality import QualityAdapter, save_adapter
from editcritic.refine.tabletop.recipe import TOKENS, make_scheduler
from editcritic.refine.tabletop.runs import Clock, Options, learning_rate, report, restore, save, take_step
from editcritic.refine.tabletop.training import denoising_loss

__all__ = ["Samples", "main", "train_adapter"]


class Samples:
    """Scored pictures as the networks see them: a draw is one batch.

    folder: of .npz files with the columns source, picture (N, 128, 128, 3) uint8, hole (N, 16, 16) bool, prompt and
    quality (N,). pipeline: encodes them.

    Raises: FileNotFoundError when there is none.
    """

    def __init__(self, folder: Path, pipeline: Any) -> None:
        files = sorted(folder.glob("*.npz"))
        if not files:
            raise FileNotFoundError(
                f"no samples (.npz) in {folder}; python -m editcritic.plugin.quality_samples"
            )
        tables = [np.load(file) for file in files]
        rows = {name: np.concatenate([table[name] for table in tables]) for name in tables[0].files}
        self.source, self.target = (_encoded(pipeline.vae, rows[name]) for name in ("source", "picture"))
        self.mask = torch.from_numpy(rows["hole"])[:, None].float()
        self.quality = torch.from_numpy(rows["quality"]).float()
        self.words = _read(pipeline, [str(prompt) for prompt in rows["prompt"]])

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Source, target, mask, words and quality of a batch."""
        pick = torch.randint(0, len(self.quality), (count,), generator=generator)
        return self.source[pick], self.target[pick], self.mask[pick], self.words[pick], self.quality[pick]


@torch.no_grad()
def _encoded(vae: Any, pictures: Any) -> Tensor:
    parts = [
        torch.from_numpy(part).permute(0, 3, 1, 2)
        for part in np.array_split(pictures, 1 + len(pictures) // 64)
    ]
    return torch.cat([vae.to_cells((part.float() / 127.5 - 1).contiguous()) for part in parts])


@torch.no_grad()
def _read(pipeline: Any, prompts: list[str]) -> Tensor:
    tokens = pipeline.tokenizer(prompts, padding="max_length", max_length=TOKENS, truncation=True)
    words: Tensor = pipeline.text_encoder(torch.tensor(tokens.input_ids)).last_hidden_state
    return words


def train_adapter(options: Options, samples: Samples, pipeline: Any) -> QualityAdapter:
    """Train for the planned time; resumes from `quality.pt`."""
    torch.manual_seed(options.seed)
    path, denoiser = options.checkpoints / "quality.pt", pipeline.unet.requires_grad_(False)
    adapter = QualityAdapter.beside(denoiser)
    adapter.attach(denoiser)
    optimiser = torch.optim.AdamW(adapter.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    state = restore(path)
    if "adapter" in state:
        adapter.load_state_dict(state["adapter"])
        optimiser.load_state_dict(state["optimiser"])
    step, clock, recent = state["step"], Clock(state["seconds"], options.minutes, interval=60), [0.0, 0.0]
    generator = torch.Generator().manual_seed(options.seed + step)
    blank, alphas = blank_latent(pipeline.vae), make_scheduler().alphas_cumprod
    while clock.progress < 1:
        *batch, words, quality = samples.draw(options.batch, generator)
        noise = torch.randn(batch[1].shape, generator=generator)
        steps = torch.randint(0, len(alphas), (options.batch,), generator=generator)
        source, target, mask = batch
        with torch.autocast("cpu", torch.bfloat16):
            tokens = adapter(quality)
            loss = denoising_loss(
                denoiser, words, (source, target, mask), blank, alphas, noise, steps, tokens
            )
        take_step(optimiser, loss, learning_rate(clock.progress, options.rate))
        step += 1
        recent = [recent[0] + loss.item(), recent[1] + 1]
        if step % 50 == 0:
            report(options.out, stage="quality", step=step, seconds=clock.seconds, loss=recent[0] / recent[1])
            recent = [0.0, 0.0]
        if clock.save_is_due():
            kept = {"adapter": adapter.state_dict(), "optimiser": optimiser.state_dict()}
            save(path, {**kept, "seconds": clock.seconds, "step": step})
    return adapter


def main(arguments: list[str] | None = None) -> None:
    """Train and write `OUT/quality.safetensors`."""
    parser = argparse.ArgumentParser(prog="python -m editcritic.refine.tabletop.quality_training")
    parser.add_argument("--samples", type=Path, required=True, help="folder of scored pictures (.npz)")
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoints, progress and the weights go here"
    )
    parser.add_argument(
        "--pipeline", type=Path, default=None, help="folder of the base; the shipped one without it"
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=41)
    asked = parser.parse_args(arguments)
    options = Options(
        asked.samples,
        asked.out,
        "quality",
        asked.minutes,
        asked.batch,
        asked.rate,
        asked.seed,
        0,
        "cpu",
        False,
    )
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    pipeline = load(asked.pipeline)
    adapter = train_adapter(options, Samples(asked.samples, pipeline), pipeline)
    save_adapter(adapter, options.out / "quality.safetensors")


if __name__ == "__main__":
    main()
