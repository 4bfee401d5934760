"""Answers of an engine with their previews, as material to learn what its previews promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.oracle.cases import asked_edits
from editcritic.refine.engine import Engine, Preview
from editcritic.server.training.defects import draw_mask
from editcritic.server.training.recorded_previews import RecordedEdit, save_recorded

__all__ = ["AskedEdit", "prompted_edits", "record_previews", "tabletop_edits"]

SHARES = (0.2, 0.3, 0.4, 0.6, 0.8)
"""Shares of the steps at which a race looks."""
_LONGEST = 384
_MASK_SHARE = (0.03, 0.1)


class AskedEdit(NamedTuple):
    """source: (H, W, 3) uint8. mask: (H, W) float32 in [0, 1]."""

    source: NDArray[np.uint8]
    mask: NDArray[np.float32]
    prompt: str


def tabletop_edits(photos: Sequence[Image.Image], count: int, seed: int) -> list[AskedEdit]:
    """Edits in the tabletop engine's world, one of six a removal."""
    return [
        AskedEdit(each.source, each.mask.astype(np.float32), each.prompt)
        for each in asked_edits(photos, count, seed)
    ]


def prompted_edits(
    photos: Sequence[Image.Image], prompts: Sequence[str], count: int, seed: int
) -> list[AskedEdit]:
    """Edits of photographs, at most 384 pixels long, with drawn masks and these prompts in turn."""
    rng, edits = np.random.default_rng(seed), []
    for number in range(count):
        photo = photos[int(rng.integers(len(photos)))].convert("RGB")
        photo.thumbnail((_LONGEST, _LONGEST), Image.Resampling.LANCZOS)
        source = np.asarray(photo, np.uint8)
        mask = draw_mask((source.shape[0], source.shape[1]), int(rng.integers(2**31)), _MASK_SHARE)
        edits.append(AskedEdit(source, mask, prompts[number % len(prompts)]))
    return edits


def record_previews(
    engine: Engine,
    edits: Sequence[AskedEdit],
    folder: Path,
    *,
    answers: int,
    seed: int = 0,
    told: Callable[[int, int], None] | None = None,
) -> None:
    """Have each edit answered several times and keep previews and results; what the folder holds is not made again."""
    for number, edit in enumerate(edits):
        name = f"{seed:04d}-{number:04d}"
        if not (folder / f"{name}.npz").exists():
            save_recorded(_record(engine, edit, name, (seed, number), answers), folder)
        if told is not None:
            told(number + 1, len(edits))


def _record(engine: Engine, edit: AskedEdit, name: str, seed: tuple[int, int], answers: int) -> RecordedEdit:
    seeds = np.random.default_rng(seed).integers(2**31, size=answers)
    made = [engine.candidate(edit.source, edit.mask, edit.prompt, seed=int(each)) for each in seeds]
    pictures: list[list[NDArray[np.uint8]]] = [[] for _ in made]
    for share in SHARES:
        engine.advance(made, share)
        for candidate, seen in zip(made, pictures, strict=True):
            seen.append(_whole(edit.source, candidate.preview()))
    blend = made[0].blend_mask
    engine.advance(made, 1.0)
    for candidate, seen in zip(made, pictures, strict=True):
        seen.append(candidate.result())
    return RecordedEdit(name, edit.source, edit.mask, blend, edit.prompt, SHARES, np.array(pictures))


def _whole(source: NDArray[np.uint8], preview: Preview) -> NDArray[np.uint8]:
    left, top, right, bottom = preview.region
    whole = source.copy()
    whole[top:bottom, left:right] = preview.picture
    return whole
