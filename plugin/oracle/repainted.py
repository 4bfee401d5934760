"""Renderings in the texture of an engine: noised in part, and painted again by the engine, which is told the truth.

``python -m editcritic.plugin.oracle.repainted --images DIR --count 2000 --out DIR`` makes a folder of them.

What is learned stays the rendering's own shape and colour. Nothing is drawn from the engine's plain answers, of which
nobody knows what they show, and no critic has a part in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from editcritic.plugin.oracle.sight import Oracle, Sight
from editcritic.refine.engine import Engine, load_engine
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.words import REMOVAL
from editcritic.refine.tabletop.world import Scene, draw_scene
from editcritic.server.critics.alignment import NONE
from editcritic.server.training.alignment import Example
from editcritic.server.training.named_answers import names_in, read_named, save_named

__all__ = ["main", "repaint", "repainted_accuracy", "sight_of"]

_GATHERED = 4
_STEPS = (4, 10, 20)
"""Few steps leave another texture than many, and loops take both."""
_STRENGTHS = (0.05, 0.75)
"""From the autoencoder's copy to where the engine draws its own edges along the rendering's outline."""
_STRENGTHS_EMPTY = (0.05, 0.85)
"""Where nothing stands there is no outline that could be lost."""


def repaint(
    engine: Engine,
    photos: Sequence[Image.Image],
    folder: Path,
    count: int,
    seed: int,
    told: Callable[[int, int], object] = lambda _done, _all: None,
) -> None:
    """Keep `count` repainted renderings in `folder`; what it holds already is not painted again.

    told: gets (done, of how many).
    """
    held = names_in(folder)
    for first in range(0, count, _GATHERED):
        names = [f"repainted-{seed:04d}-{place:05d}" for place in range(first, min(first + _GATHERED, count))]
        if names[-1] not in held:
            for name, example in zip(names, _group(engine, photos, len(names), (seed, first)), strict=True):
                save_named(name, example, folder)
        told(min(first + _GATHERED, count), count)


def _group(
    engine: Engine, photos: Sequence[Image.Image], count: int, seed: tuple[int, int]
) -> Iterator[Example]:
    rng = np.random.default_rng(seed)
    scenes = [draw_scene(photos[int(rng.integers(len(photos)))], rng) for _ in range(count)]
    share, steps = rng.random(), int(rng.choice(_STEPS))
    candidates = [
        engine.candidate(
            np.round(scene.target * 255).astype(np.uint8),
            scene.mask,
            _truth(scene),
            seed=int(rng.integers(2**31)),
            steps=steps,
            strength=float(np.interp(share, (0, 1), _STRENGTHS if scene.thing else _STRENGTHS_EMPTY)),
        )
        for scene in scenes
    ]
    engine.advance(candidates, 1.0)
    for scene, candidate in zip(scenes, candidates, strict=True):
        words = {"shape": NONE}
        if scene.thing is not None:
            words = {"shape": scene.thing.shape, "colour": scene.thing.colour}
        yield Example(candidate.result(), scene.mask.astype(np.float32), words)


def _truth(scene: Scene) -> str:
    thing = scene.thing
    return REMOVAL if thing is None else f"a {thing.size} {thing.finish} {thing.colour} {thing.shape}"


def sight_of(example: Example) -> Sight:
    """What the rendering showed."""
    empty = example.words["shape"] == NONE
    return Sight(None, None) if empty else Sight(example.words["shape"], example.words["colour"])


def repainted_accuracy(oracle: Oracle, folder: Path) -> float:
    """Share of the pictures in a folder whose shape and colour the oracle names as the rendering had them."""
    examples = read_named(folder)
    return sum(oracle.look(each.image, each.mask > 0) == sight_of(each) for each in examples) / len(examples)


def main(arguments: list[str] | None = None) -> None:
    """Paint a folder of them from the command line; what it holds already stays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs (.jpg, .png)")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    repaint(
        load_engine("tabletop"),
        read_photos(given.images),
        given.out,
        given.count,
        given.seed,
        lambda done, of: print(f"{done} of {of}", flush=True),
    )


if __name__ == "__main__":
    main()
