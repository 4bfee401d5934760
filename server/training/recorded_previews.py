"""Answers of an engine with the previews that led to them, as a folder of one `.npz` file for each edit.

They are made once, by whoever has the engine (`editcritic train previews`); this module knows no engine.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from editcritic.v1.errors import InvalidInput

__all__ = ["RecordedEdit", "read_recorded", "save_recorded"]


@dataclass(frozen=True, eq=False)
class RecordedEdit:
    """One edit, K answers, R previews of each.

    Attributes:
        name: of the edit; names its file.
        source: (H, W, 3) uint8.
        mask: (H, W) float32 in [0, 1].
        blend: (H, W) float32 in [0, 1]; where answers were blended in.
        prompt: what was asked for.
        shares: R shares of the steps, rising.
        pictures: (K, R + 1, H, W, 3) uint8; the previews and the finished answer.
    """

    name: str
    source: NDArray[np.uint8]
    mask: NDArray[np.float32]
    blend: NDArray[np.float32]
    prompt: str
    shares: Sequence[float]
    pictures: NDArray[np.uint8]


def save_recorded(edit: RecordedEdit, folder: Path) -> None:
    """Add one edit to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{edit.name}.npz"
    np.savez_compressed(
        unfinished,
        source=edit.source,
        mask=edit.mask,
        blend=edit.blend,
        prompt=np.array(edit.prompt),
        shares=np.asarray(edit.shares, np.float64),
        pictures=edit.pictures,
    )
    unfinished.replace(folder / f"{edit.name}.npz")


def read_recorded(folder: Path) -> list[RecordedEdit]:
    """All edits of a folder, by name.

    Raises:
        InvalidInput: there are none, or one of them cannot be read.
    """
    files = sorted(file for file in folder.glob("*.npz") if not file.name.startswith("."))
    if not files:
        raise InvalidInput(f"{folder} holds no recorded previews (<edit>.npz)")
    return [_read(file) for file in files]


def _read(file: Path) -> RecordedEdit:
    try:
        with np.load(file, allow_pickle=False) as kept:
            return RecordedEdit(
                file.stem,
                kept["source"],
                kept["mask"],
                kept["blend"],
                str(kept["prompt"]),
                kept["shares"].tolist(),
                kept["pictures"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{file} holds no recorded previews: {error}") from error
