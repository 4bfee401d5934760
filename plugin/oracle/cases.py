"""Edits with a known answer, over any photographs, and how often the oracle is right about true renderings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.oracle.sight import Oracle, Sight
from editcritic.refine.tabletop.world import SIDE, crop_photo, draw_mask, draw_scene

__all__ = ["Case", "asked_edits", "oracle_accuracy"]

_REMOVAL_EVERY = 6
_EDGE = SIDE // 4


@dataclass(frozen=True, eq=False)
class Case:
    """An edit and what it asks for; shape and colour are None for a removal.

    source: (H, W, 3) uint8. mask: (H, W) bool.
    """

    source: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    prompt: str
    wanted: Sight


def asked_edits(photos: Sequence[Image.Image], count: int, seed: int) -> list[Case]:
    """Edits of a crop of each photograph: five of six ask for a thing (finish, colour, shape), one for a removal."""
    rng = np.random.default_rng(seed)
    return [
        _asked_edit(photos[i % len(photos)], rng, i % _REMOVAL_EVERY == _REMOVAL_EVERY - 1)
        for i in range(count)
    ]


def _asked_edit(photo: Image.Image, rng: np.random.Generator, removal: bool) -> Case:
    source = np.round(crop_photo(photo, rng) * 255).astype(np.uint8)
    mask = draw_mask(rng)
    while min(np.ptp(np.nonzero(mask)[axis]) for axis in (0, 1)) < _EDGE:
        mask = draw_mask(rng)
    thing = None
    while thing is None:
        thing = draw_scene(photo, rng).thing
    if removal:
        return Case(source, mask, "", Sight(None, None))
    return Case(
        source, mask, f"a {thing.finish} {thing.colour} {thing.shape}", Sight(thing.shape, thing.colour)
    )


def oracle_accuracy(oracle: Oracle, photos: Sequence[Image.Image], count: int, seed: int) -> float:
    """Share of true renderings over these photographs whose shape and colour the oracle names right."""
    rng, right = np.random.default_rng(seed), 0
    for i in range(count):
        scene = draw_scene(photos[i % len(photos)], rng)
        seen = oracle.look(np.round(scene.target * 255).astype(np.uint8), scene.mask)
        wanted = Sight(scene.thing.shape, scene.thing.colour) if scene.thing else Sight(None, None)
        right += seen == wanted
    return right / count
