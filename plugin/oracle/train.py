"""Train a network of the oracle: `python -m editcritic.plugin.oracle.train --images DIR --out FILE`.

It learns from true renderings over photographs. With `--repainted DIR` half of what it sees are renderings that the
engine painted again (`repainted.py`), so that the engine's texture does not make another solid of what it shows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file

from editcritic.plugin.oracle.repainted import sight_of
from editcritic.plugin.oracle.sight import HUES, NAMES, SIDE, network, view
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.words import THINGS
from editcritic.refine.tabletop.world import draw_scene
from editcritic.server.training.alignment import Example
from editcritic.server.training.named_answers import read_named

__all__ = ["main", "train"]

_RATE, _FIRST, _POOL, _FRESH, _BATCH = 2e-3, 2000, 24_000, 32, 128
_RATE_GOING_ON = 6e-4
Drawn = tuple[NDArray[np.float32], int, int]


def _example(photos: list[Image.Image], rng: np.random.Generator) -> Drawn:
    scene = draw_scene(photos[int(rng.integers(len(photos)))], rng)
    picture = _worn((scene.target * 255).round().astype(np.uint8), rng, crisp=0.5)
    noisy = view(picture, scene.mask) + rng.normal(0, rng.uniform(0, 0.06), (4, SIDE, SIDE)).astype(
        np.float32
    )
    if scene.thing is None:
        return noisy, len(THINGS), -1
    return noisy, THINGS.index(scene.thing.shape), HUES.index(scene.thing.colour)


def _worn(picture: NDArray[np.uint8], rng: np.random.Generator, crisp: float) -> NDArray[np.uint8]:
    """Left as it is with probability `crisp`; else softened, left in coarse pixels, or sharpened.

    Engines and repairs do all of this; what is seen must not hang on one texture.
    """
    if rng.random() < crisp:
        return picture
    image = Image.fromarray(picture)
    if rng.random() < 0.3:
        radius, percent = float(rng.uniform(0.5, 2)), int(rng.integers(60, 250))
        return np.asarray(image.filter(ImageFilter.UnsharpMask(radius, percent, 0)))
    side = int(rng.integers(48, 110))
    back = Image.Resampling.BICUBIC if rng.random() < 0.7 else Image.Resampling.NEAREST
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR).resize(image.size, back))


def _repainted(example: Example, rng: np.random.Generator) -> Drawn:
    """A repainted rendering, mirrored half of the time, worn a little and cut a little off its place."""
    picture, mask = _worn(example.image, rng, crisp=0.7), example.mask > 0
    if rng.random() < 0.5:
        picture, mask = picture[:, ::-1].copy(), mask[:, ::-1].copy()
    down, right = rng.integers(-2, 3, 2)
    seen = view(picture, np.roll(mask, (down, right), (0, 1)))
    noisy = seen + rng.normal(0, rng.uniform(0, 0.04), seen.shape).astype(np.float32)
    sight = sight_of(example)
    hue = -1 if sight.colour is None else HUES.index(sight.colour)
    return noisy, NAMES.index(sight.shape), hue


def train(
    images: Path,
    minutes: float,
    out: Path,
    repainted: Path | None = None,
    start_from: Path | None = None,
    seed: int = 1,
) -> None:
    """Learn from renderings until the time is up; writes float16 weights.

    repainted: a folder of `repaint`, of which half of every batch is drawn. start_from: weights to go on from. seed: of
    weights and examples.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng, photos = np.random.default_rng((77, seed)), read_photos(images)
    painted = read_named(repainted) if repainted is not None else []
    net, rate = network(), _RATE
    if start_from is not None:
        net.load_state_dict({k: v.float() for k, v in load_file(start_from).items()}, strict=False)
        rate = _RATE_GOING_ON
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.03)
    start, pool, step = time.monotonic(), [_example(photos, rng) for _ in range(_FIRST)], 0
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        for place in range(step * _FRESH, (step + 1) * _FRESH):
            if len(pool) < _POOL:
                pool.append(_example(photos, rng))
            else:
                pool[place % _POOL] = _example(photos, rng)
        share_painted = _BATCH // 2 if painted else 0
        chosen = [pool[i] for i in rng.integers(0, len(pool), _BATCH - share_painted)]
        chosen += [_repainted(painted[i], rng) for i in rng.integers(0, max(1, len(painted)), share_painted)]
        pictures = torch.from_numpy(np.stack([c[0] for c in chosen]))
        shapes, colours = (torch.tensor([c[k] for c in chosen]) for k in (1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            scores = net(pictures.contiguous(memory_format=torch.channels_last)).float()
        loss = F.cross_entropy(scores[:, : len(NAMES)], shapes)
        loss = loss + F.cross_entropy(scores[:, len(NAMES) :], colours, ignore_index=-1)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 100 + 0.01, 1.6 * (1.01 - share))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step}, {share:.0%}, loss {loss.item():.3f}", flush=True)
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items() if v.is_floating_point()}, out)


def main(arguments: list[str] | None = None) -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs (.jpg, .png)")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--repainted", type=Path, help="folder of renderings that the engine painted again")
    parser.add_argument("--from", dest="start_from", type=Path, help="weights to go on from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the weights' file")
    options = parser.parse_args(arguments)
    train(options.images, options.minutes, options.out, options.repainted, options.start_from, options.seed)


if __name__ == "__main__":
    main()
