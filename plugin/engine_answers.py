"""Answers of an engine to edits of photographs, as material to adapt a critic to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.tabletop_alignment import tabletop_vocabulary
from editcritic.refine.engine import Engine
from editcritic.server.training.defects import draw_mask
from editcritic.server.training.engine_pairs import EngineAnswers, save_answers

__all__ = ["answer_edits", "tabletop_prompts"]

_LONGEST = 384
_STEP_SHARES = (1.0, 0.35, 0.2, 0.1)
_MASK_SHARE = (0.03, 0.1)


def answer_edits(
    engine: Engine,
    photos: Sequence[Image.Image],
    prompts: Sequence[str],
    folder: Path,
    *,
    count: int,
    steps: int = 20,
    seed: int = 0,
    told: Callable[[int, int], None] | None = None,
) -> list[EngineAnswers]:
    """Have `count` edits answered with all steps, a third, a fifth and a tenth of them; keep them in `folder`.

    Edits that the folder holds already are not made again.
    """
    made = []
    for number in range(count):
        name = f"{seed:04d}-{number:04d}"
        if not (folder / f"{name}_{len(_STEP_SHARES) - 1}.png").exists():
            answers = _answer(engine, photos, prompts, name, (seed, number), steps)
            save_answers(answers, folder)
            made.append(answers)
        if told is not None:
            told(number + 1, count)
    return made


def tabletop_prompts(count: int, seed: int) -> list[str]:
    """Prompts of the tabletop engine: a thing five times of six, a removal else."""
    rng = np.random.default_rng(seed)
    slots = tabletop_vocabulary().slots
    prompts = []
    for _ in range(count):
        words = [str(rng.choice(list(slots[slot]))) for slot in ("finish", "colour", "shape")]
        prompts.append("background" if words[-1] == "none" else "a " + " ".join(words))
    return prompts


def _answer(
    engine: Engine,
    photos: Sequence[Image.Image],
    prompts: Sequence[str],
    name: str,
    seed: tuple[int, int],
    steps: int,
) -> EngineAnswers:
    rng = np.random.default_rng(seed)
    photo = _bounded(photos[int(rng.integers(len(photos)))])
    mask = draw_mask((photo.shape[0], photo.shape[1]), int(rng.integers(2**31)), _MASK_SHARE)
    prompt = prompts[seed[1] % len(prompts)]
    own_seed = int(rng.integers(2**31))
    counts = [max(1, round(share * steps)) for share in _STEP_SHARES]
    images = [engine.candidate(photo, mask, prompt, seed=own_seed, steps=each).result() for each in counts]
    return EngineAnswers(name, photo, mask, images, prompt, [f"{each} steps" for each in counts])


def _bounded(photo: Image.Image) -> NDArray[np.uint8]:
    scale = min(1.0, _LONGEST / max(photo.size))
    size = (round(photo.width * scale), round(photo.height * scale))
    return np.asarray(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.uint8)
