"""Small photographs and a small network's worth of training material."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.server.training.pairs import Photographs, read_photographs


@pytest.fixture(scope="package")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of 200 x 220 pixels as PNG files, and a mask of an object in one of them."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("coffee", "astronaut", "chelsea", "rocket"):
        photo = np.asarray(getattr(data, name)(), np.uint8)
        Image.fromarray(photo[40:240, 60:280]).save(folder / f"{name}.png")
    masks = folder / "masks"
    masks.mkdir()
    drawn = np.zeros((200, 220), np.uint8)
    drawn[60:120, 70:140] = 255
    Image.fromarray(drawn).save(masks / "coffee_0.png")
    return folder


@pytest.fixture(scope="package")
def photographs(photo_folder: Path) -> Photographs:
    return read_photographs(sorted(photo_folder.glob("*.png")), photo_folder / "masks")
