"""A folder of pictures with their words, as an engine painted them.

They are made once, by whoever has the engine, and kept as PNG files and one JSON line each; this module reads and
writes that folder and knows no engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from editcritic.server.training.alignment import Example
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_file, decode_mask_file

__all__ = ["names_in", "read_named", "save_named"]

_LINES = "named.jsonl"


def save_named(name: str, example: Example, folder: Path) -> None:
    """Add one example to a folder; `name` names its files."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(example.image).save(folder / f"{name}.png")
    Image.fromarray(np.round(example.mask * 255).astype(np.uint8)).save(folder / f"{name}_mask.png")
    line = {"name": name, "words": dict(example.words), "is_true": example.is_true}
    with (folder / _LINES).open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def names_in(folder: Path) -> set[str]:
    """Names of the examples that a folder holds; none when there is no such folder."""
    file = folder / _LINES
    if not file.exists():
        return set()
    return {str(json.loads(line)["name"]) for line in file.read_text(encoding="utf-8").splitlines()}


def read_named(folder: Path) -> list[Example]:
    """All examples of a folder, by name.

    Raises:
        InvalidInput: there is no such folder, or a line of it cannot be read.
    """
    try:
        lines = (folder / _LINES).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"{folder} holds no named answers of an engine ({_LINES} is missing)") from error
    examples = {}
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
            examples[str(line["name"])] = _read(folder, line)
        except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
            raise InvalidInput(f"{folder / _LINES}:{number}: {error}") from error
    return [examples[name] for name in sorted(examples)]


def _read(folder: Path, line: Mapping[str, Any]) -> Example:
    name = str(line["name"])
    return Example(
        decode_file((folder / f"{name}.png").read_bytes()),
        decode_mask_file((folder / f"{name}_mask.png").read_bytes()),
        {str(slot): str(word) for slot, word in line["words"].items()},
        line["is_true"] is True,
    )
