"""Answers of an engine to edits of photographs, as material to adapt a critic to it.

Three ways in which an engine is known to get worse without anyone's label: fewer steps, more and more guidance, and
the photograph's own content sent through its autoencoder again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

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
_GUIDANCE_FACTORS = (1.0, 3.0, 6.0, 12.0)
_ROUND_TRIPS = 3
_LEAST_STRENGTH = 0.05
"""So little noise that what comes back is the autoencoder's copy."""
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
    """Have `count` edits answered four times each, falling in quality; keep them in `folder`.

    In turn: with all steps, a third, a fifth and a tenth of them; with one to twelve times the usual guidance; and
    the photograph itself after no, one, two and three round trips through the autoencoder. Edits that the folder
    holds already are not made again.
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
    edit = _Edit(engine, photo, mask, prompt, int(rng.integers(2**31)), steps)
    images, made = (_fewer_steps, _more_guidance, _round_trips)[seed[1] % 3](edit)
    return EngineAnswers(name, photo, mask, images, prompt, made)


class _Edit(NamedTuple):
    engine: Engine
    photo: NDArray[np.uint8]
    mask: NDArray[np.float32]
    prompt: str
    seed: int
    steps: int


_Answers = tuple[list[NDArray[np.uint8]], list[str]]


def _fewer_steps(edit: _Edit) -> _Answers:
    counts = [max(1, round(share * edit.steps)) for share in _STEP_SHARES]
    made = [
        edit.engine.candidate(edit.photo, edit.mask, edit.prompt, seed=edit.seed, steps=each).result()
        for each in counts
    ]
    return made, [f"{each} steps" for each in counts]


def _more_guidance(edit: _Edit) -> _Answers:
    usual = edit.engine.capabilities.default_guidance
    scales = [usual * factor for factor in _GUIDANCE_FACTORS]
    made = [
        edit.engine.candidate(
            edit.photo, edit.mask, edit.prompt, seed=edit.seed, steps=edit.steps, guidance=scale
        ).result()
        for scale in scales
    ]
    return made, [f"guidance {scale:g}" for scale in scales]


def _round_trips(edit: _Edit) -> _Answers:
    made = [edit.photo]
    for _ in range(_ROUND_TRIPS):
        again = edit.engine.candidate(
            made[-1], edit.mask, "", seed=edit.seed, steps=edit.steps, strength=_LEAST_STRENGTH
        )
        made.append(again.result())
    return made, [f"{number} round trips" for number in range(len(made))]


def _bounded(photo: Image.Image) -> NDArray[np.uint8]:
    scale = min(1.0, _LONGEST / max(photo.size))
    size = (round(photo.width * scale), round(photo.height * scale))
    return np.asarray(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.uint8)
