"""The tabletop world as examples for an alignment head: its vocabulary, and renderings of which every word is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from editcritic.refine.tabletop import words
from editcritic.refine.tabletop.world import draw_scene
from editcritic.server.critics.alignment import NONE, Vocabulary
from editcritic.server.training.alignment import Example

__all__ = ["ASKED_WRONG", "draw_example", "near_misses", "tabletop_vocabulary"]

ASKED_WRONG = {"shape": 0.12, "colour": 0.01, "finish": 0.05}
"""How often the engine paints another word than was asked: where a head that had only seen renderings disagreed with
the prompt of 1,001 answers; for the finish, which that head could not read, a guess."""


def tabletop_vocabulary() -> Vocabulary:
    """All that the tabletop engine is told in a prompt."""
    return Vocabulary(
        name="the tabletop engine",
        slots={
            "shape": (*words.THINGS, NONE),
            "colour": tuple(words.COLOURS),
            "finish": words.FINISHES,
            "size": words.SIZES,
        },
        synonyms=words.SYNONYMS,
        removal=(words.REMOVAL,),
        ignored=words.ARTICLES,
        # As often as the engine's answers are read as asked on balls, which show a finish most plainly (461 of 563).
        followed={"finish": 0.82},
    )


def draw_example(photos: Sequence[Image.Image], rng: np.random.Generator) -> Example:
    """A true rendering over a photograph, or a photograph with nothing placed."""
    scene = draw_scene(photos[int(rng.integers(len(photos)))], rng)
    image = np.round(scene.target * 255).astype(np.uint8)
    mask = scene.mask.astype(np.float32)
    if scene.thing is None:
        return Example(image, mask, {"shape": NONE})
    thing = scene.thing
    asked = {"shape": thing.shape, "colour": thing.colour, "finish": thing.finish, "size": thing.size}
    return Example(image, mask, asked)


def near_misses(example: Example, rng: np.random.Generator) -> tuple[str, list[str]]:
    """The right prompt (finish, colour, shape) and the same prompt with one word wrong, one for each word.

    Raises:
        ValueError: nothing was placed.
    """
    if example.words["shape"] == NONE:
        raise ValueError("a removal has no words that could be wrong")
    choices = {"finish": words.FINISHES, "colour": tuple(words.COLOURS), "shape": words.THINGS}
    right = {slot: example.words[slot] for slot in choices}
    wrong = []
    for slot, known in choices.items():
        other = str(rng.choice([word for word in known if word != right[slot]]))
        wrong.append("a " + " ".join((right | {slot: other}).values()))
    return "a " + " ".join(right.values()), wrong
