"""Train the tabletop engine: `python -m editcritic.refine.tabletop.train --images DIR --out DIR`.

Three stages, each of which resumes from `OUT/checkpoints` when run again: `decoder` (pictures from
latents), `denoiser` (text encoder and U-Net together), `export` (the pipeline folder, float16 safetensors).
Runs on a CPU or on a GPU.
The learning rate follows the share of `--minutes` that has been trained, so a run that is stopped and
resumed ends as planned.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from editcritic.refine.tabletop.decoder import train_decoder, trained_autoencoder
from editcritic.refine.tabletop.recipe import make_pipeline, make_tokenizer
from editcritic.refine.tabletop.runs import Options
from editcritic.refine.tabletop.training import averaged_models, train_denoiser

__all__ = ["export", "main"]


def export(options: Options) -> None:
    """Stage 3: write the pipeline folder `OUT/pipeline` from the averaged weights."""
    unet, text = averaged_models(options)
    pipeline = make_pipeline(trained_autoencoder(options), text, make_tokenizer(), unet)
    pipeline.to(torch.float16).save_pretrained(options.out / "pipeline", safe_serialization=True)


def _options(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m editcritic.refine.tabletop.train",
        description=__doc__.splitlines()[0] if __doc__ else None,
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs (.jpg, .png)")
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoints, progress and the pipeline go here"
    )
    parser.add_argument("--stage", choices=["decoder", "denoiser", "export", "all"], default="all")
    parser.add_argument("--minutes", type=float, default=90, help="training time of each stage")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=8e-4, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--pool", type=int, default=8192, help="scenes held at once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--compiled", action="store_true", help="torch.compile the U-Net: a third faster after some minutes"
    )
    return Options(**vars(parser.parse_args(arguments)))


def main(arguments: list[str] | None = None) -> None:
    """Run the asked stage, or all of them in order."""
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    options.checkpoints.mkdir(exist_ok=True)
    stages = {"decoder": train_decoder, "denoiser": train_denoiser, "export": export}
    for name, stage in stages.items():
        if options.stage in (name, "all"):
            stage(options)


if __name__ == "__main__":
    main()
