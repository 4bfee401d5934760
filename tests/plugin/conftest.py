"""A server process for all tests of the client and the commands, and files to send it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dummy server that keeps verdicts."""
    verdicts = tmp_path_factory.mktemp("verdicts") / "verdicts.sqlite3"
    with EmbeddedServer(critics=["dummy", "evidence"], flags=[f"--verdicts={verdicts}"]) as server:
        yield server.address


@pytest.fixture
def filled(source: NDArray[np.uint8], mask: NDArray[np.float32]) -> Callable[[int], NDArray[np.uint8]]:
    """``filled(200)``: the source with one brightness inside the mask; the dummy scores 200 / 2.55."""

    def fill(level: int) -> NDArray[np.uint8]:
        picture = source.copy()
        picture[mask > 0.5] = level
        return picture

    return fill


@pytest.fixture
def files(
    tmp_path: Path,
    source: NDArray[np.uint8],
    mask: NDArray[np.float32],
    filled: Callable[[int], NDArray[np.uint8]],
) -> Path:
    """A folder with photo.png, mask.png, and the candidates dark.png, middle.png and bright.png."""
    Image.fromarray(source).save(tmp_path / "photo.png")
    Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    for name, level in {"dark": 10, "middle": 128, "bright": 240}.items():
        Image.fromarray(filled(level)).save(tmp_path / f"{name}.png")
    return tmp_path
