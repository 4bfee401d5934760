"""The tabletop engine's own pictures as examples for an alignment head: renderings sent through it, and plain answers.

A rendering that was noised in part and denoised by the engine, told the truth, has the engine's texture and keeps
its words. A plain answer has them too, mostly: it is what the engine makes of a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.engine import Engine, Preview
from editcritic.refine.tabletop.words import COLOURS, FINISHES, REMOVAL, SIZES, THINGS
from editcritic.refine.tabletop.world import crop_photo, draw_mask, draw_scene
from editcritic.server.critics.alignment import NONE
from editcritic.server.training.alignment import Example
from editcritic.server.training.named_answers import names_in, save_named

__all__ = ["paint_named"]

_GATHERED = 4
_STRENGTHS = (0.05, 0.2, 0.35, 0.5)
"""From the autoencoder's copy to where half of what was there is gone; the words are told, so they stay."""
_LOOKS = (0.6, 0.8, 1.0)
"""When a plain answer is looked at: previews are judged too, and show the same thing in other strokes."""
_REMOVAL_SHARE = 0.12
_SIZE_TOLD = 0.25
_ORDER = ("size", "finish", "colour", "shape")


def paint_named(
    engine: Engine,
    photos: Sequence[Image.Image],
    folder: Path,
    *,
    renderings: int,
    answers: int,
    seed: int = 0,
    told: Callable[[int, int], None] | None = None,
) -> None:
    """Have renderings repainted and prompts answered; keep the pictures in `folder`.

    What the folder holds already is not painted again, so a run that was stopped goes on. told: gets
    (done, of how many).
    """
    held, total = names_in(folder), renderings + answers
    for kind, count, done in (("rendering", renderings, 0), ("answer", answers, renderings)):
        is_true = kind == "rendering"
        for first in range(0, count, _GATHERED):
            last = min(first + _GATHERED, count)
            group = f"{kind}-{seed:04d}-{first:05d}"
            if f"{group}-{last - first - 1}-100" not in held:
                for name, example in _paint(
                    engine, photos, last - first, (seed, first, int(is_true)), is_true
                ):
                    save_named(f"{group}-{name}", example, folder)
            if told is not None:
                told(done + last, total)


class _Edit(NamedTuple):
    start: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    words: dict[str, str]

    @property
    def prompt(self) -> str:
        if self.words["shape"] == NONE:
            return REMOVAL
        return " ".join(["a", *(self.words[slot] for slot in _ORDER if slot in self.words)])


def _paint(
    engine: Engine, photos: Sequence[Image.Image], count: int, seed: tuple[int, ...], is_true: bool
) -> Iterator[tuple[str, Example]]:
    rng = np.random.default_rng(seed)
    strength = float(rng.choice(_STRENGTHS)) if is_true else None
    edits = [_rendered(photos, rng) if is_true else _asked(photos, rng) for _ in range(count)]
    candidates = [
        engine.candidate(each.start, each.mask, each.prompt, seed=int(rng.integers(2**31)), strength=strength)
        for each in edits
    ]
    for look in _LOOKS[-1:] if is_true else _LOOKS:
        engine.advance(candidates, look)
        for place, (candidate, edit) in enumerate(zip(candidates, edits, strict=True)):
            picture = candidate.result() if look == 1 else _previewed(edit.start, candidate.preview())
            example = Example(picture, edit.mask.astype(np.float32), edit.words, is_true)
            yield f"{place}-{round(100 * look)}", example


def _previewed(source: NDArray[np.uint8], preview: Preview) -> NDArray[np.uint8]:
    left, top, right, bottom = preview.region
    whole = source.copy()
    whole[top:bottom, left:right] = preview.picture
    return whole


def _rendered(photos: Sequence[Image.Image], rng: np.random.Generator) -> _Edit:
    scene = draw_scene(photos[int(rng.integers(len(photos)))], rng)
    thing = scene.thing
    if thing is None:
        return _rendered(photos, rng)
    words = {"shape": thing.shape, "colour": thing.colour, "finish": thing.finish, "size": thing.size}
    return _Edit(np.round(scene.target * 255).astype(np.uint8), scene.mask, words)


def _asked(photos: Sequence[Image.Image], rng: np.random.Generator) -> _Edit:
    """A prompt over a photograph, with a mask as people draw them."""
    photo = photos[int(rng.integers(len(photos)))]
    source = np.round(crop_photo(photo, rng) * 255).astype(np.uint8)
    if rng.random() < _REMOVAL_SHARE:
        return _Edit(source, draw_mask(rng), {"shape": NONE})
    drawn = {"shape": THINGS, "colour": tuple(COLOURS), "finish": FINISHES}
    words = {slot: str(rng.choice(known)) for slot, known in drawn.items()}
    if rng.random() < _SIZE_TOLD:
        words["size"] = str(rng.choice(SIZES))
    return _Edit(source, draw_mask(rng), words)
