"""Answers of a real engine whose order is known without a label: the same seed with all its steps, few, and very few.

They are made once, by whoever has the engine, and kept as a folder of PNG files and one JSON line each; this module
reads and writes that folder and knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.view import MIN_SIDE, look_at, view_edit
from editcritic.server.training.batches import ENGINE
from editcritic.server.training.pairs import Group
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_file, decode_mask_file

__all__ = ["EngineAnswers", "as_group", "read_answers", "save_answers"]

_LINES = "answers.jsonl"
_SEVERITIES = (0.0, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False)
class EngineAnswers:
    """One edit and its answers, the best first.

    Attributes:
        name: of the edit; names its files.
        source: (H, W, 3) uint8.
        mask: (H, W) float32 in [0, 1].
        answers: each (H, W, 3) uint8; four of them, falling in quality.
        prompt: what was asked for.
        made: how each was made, in words ("20 steps").
    """

    name: str
    source: NDArray[np.uint8]
    mask: NDArray[np.float32]
    answers: Sequence[NDArray[np.uint8]]
    prompt: str
    made: Sequence[str]


def save_answers(answers: EngineAnswers, folder: Path) -> None:
    """Add one edit to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(answers.source).save(folder / f"{answers.name}_source.png")
    Image.fromarray(np.round(answers.mask * 255).astype(np.uint8)).save(folder / f"{answers.name}_mask.png")
    for place, image in enumerate(answers.answers):
        Image.fromarray(image).save(folder / f"{answers.name}_{place}.png")
    line = {"name": answers.name, "prompt": answers.prompt, "made": list(answers.made)}
    with (folder / _LINES).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def read_answers(folder: Path) -> Iterator[EngineAnswers]:
    """All edits of a folder, in the order in which they were added.

    Raises:
        InvalidInput: there is no such folder, or a line of it cannot be read.
    """
    try:
        lines = (folder / _LINES).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"{folder} holds no answers of an engine ({_LINES} is missing)") from error
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            name = str(line["name"])
            images = [
                decode_file((folder / f"{name}_{place}.png").read_bytes())
                for place in range(len(line["made"]))
            ]
        except (ValueError, KeyError, OSError) as error:
            raise InvalidInput(f"{folder / _LINES}:{number}: {error}") from error
        yield EngineAnswers(
            name,
            decode_file((folder / f"{name}_source.png").read_bytes()),
            decode_mask_file((folder / f"{name}_mask.png").read_bytes()),
            images,
            str(line["prompt"]),
            list(line["made"]),
        )


def as_group(answers: EngineAnswers) -> Group | None:
    """The answers as a group of known order and no other claim; None when their window has another size."""
    view = view_edit(DecodedEdit(answers.name, answers.source, answers.mask))
    if view.side != MIN_SIDE:
        return None
    looks = [look_at(view, image) for image in answers.answers]
    count = len(looks)
    return Group(
        source=view.source,
        alpha=view.alpha,
        regions=view.regions,
        candidates=np.stack([window for window, _ in looks]),
        whole=np.stack([whole for _, whole in looks]),
        whole_alpha=view.whole_alpha,
        injected=(ENGINE,) * count,
        severities=np.array(_SEVERITIES[:count], np.float32),
        injured=np.zeros((count, view.side, view.side), np.bool_),
    )
