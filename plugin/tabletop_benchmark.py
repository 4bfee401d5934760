"""How well an engine follows prompts on photographs that it has not seen, told by the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from editcritic.plugin.contact_sheet import SheetRow, contact_sheet, outlined
from editcritic.plugin.oracle.cases import Case, asked_edits, oracle_accuracy
from editcritic.plugin.oracle.sight import Oracle, Sight
from editcritic.refine.engine import Engine

__all__ = ["measure_engine"]

_COLUMNS, _SHOWN = 4, 36


def measure_engine(
    engine: Engine,
    photos: Sequence[Image.Image],
    *,
    count: int,
    seed: int,
    sheet: Path | None = None,
    oracle_count: int = 1000,
    progress: Callable[[str], object] = lambda _text: None,
    **options: Any,
) -> dict[str, float]:
    """Carry out `count` edits, one candidate each, and let the oracle look.

    sheet: picture of the first 36 cases. oracle_count: true renderings to measure the oracle on.
    options: as in `Engine.candidate`.

    Returns: shares in [0, 1]: the oracle's own accuracy on true renderings, shape and colour, each alone, removals in
    which it sees nothing, and shape and colour by shape.
    """
    oracle = Oracle()
    progress("looking at true renderings")
    figures = {"oracle_on_true_renderings": oracle_accuracy(oracle, photos, oracle_count, seed + 1)}
    asked = asked_edits(photos, count, seed)
    answers, seen = [], []
    for number, case in enumerate(asked):
        progress(f"edit {number + 1} of {count}")
        candidate = engine.candidate(case.source, case.mask, case.prompt, seed=number, **options)
        answers.append(candidate.result())
        seen.append(oracle.look(answers[-1], case.mask))
    if sheet is not None:
        _draw(asked, answers, sheet)
    return figures | _shares(asked, seen)


def _shares(asked: Sequence[Case], seen: Sequence[Sight]) -> dict[str, float]:
    pairs = [(case.wanted, sight) for case, sight in zip(asked, seen, strict=True)]
    things = [pair for pair in pairs if pair[0].shape]
    empty = [sight for wanted, sight in pairs if not wanted.shape]
    by_shape = Counter(wanted.shape for wanted, _ in things)
    right = Counter(wanted.shape for wanted, sight in things if wanted == sight)
    return {
        "cases": len(asked),
        "shape_and_colour": sum(wanted == sight for wanted, sight in things) / max(1, len(things)),
        "shape": sum(wanted.shape == sight.shape for wanted, sight in things) / max(1, len(things)),
        "colour": sum(wanted.colour == sight.colour for wanted, sight in things) / max(1, len(things)),
        "removal_left_empty": sum(sight.shape is None for sight in empty) / max(1, len(empty)),
        **{f"both_{shape}": right[shape] / number for shape, number in sorted(by_shape.items(), key=str)},
    }


def _draw(asked: Sequence[Case], answers: Sequence[Any], path: Path) -> None:
    cells = [
        (case.prompt or "(removal)", np.hstack([outlined(case.source, case.mask.astype(np.float32)), answer]))
        for case, answer in zip(asked, answers, strict=True)
    ][:_SHOWN]
    rows = [SheetRow("", cells[start : start + _COLUMNS]) for start in range(0, len(cells), _COLUMNS)]
    Image.fromarray(contact_sheet(rows, side=256)).save(path)
