"""A contact sheet of label-free pairs, for a person to look at before anything learns from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from editcritic.server.training.pairs import Group

__all__ = ["draw_gallery"]

_TILE, _TEXT, _GAP = 160, 18, 4
_PAPER, _INK, _FAULT = (255, 255, 255), (30, 30, 30), (230, 60, 40)


def draw_gallery(groups: Sequence[Group]) -> Image.Image:
    """One row for each group: source with its mask, then every candidate with name and severity of its fault.

    The injured place is outlined in red; a preview and a hidden source are named as such.
    """
    columns = 1 + max(len(group.candidates) for group in groups)
    width, height = _TILE + _GAP, _TILE + _TEXT + _GAP
    sheet = Image.new("RGB", (columns * width, len(groups) * height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for row, group in enumerate(groups):
        for column, (picture, words) in enumerate(_tiles(group)):
            corner = (column * width, row * height)
            sheet.paste(picture.resize((_TILE, _TILE), Image.Resampling.LANCZOS), corner)
            draw.text((corner[0] + 2, corner[1] + _TILE + 2), words, _INK, font)
    return sheet


def _tiles(group: Group) -> list[tuple[Image.Image, str]]:
    state = "source" if group.mask_known else "source, mask not told"
    if group.progress < 1:
        state += f", {100 * group.progress:.0f} % of the steps"
    tiles = [(_outlined(group.source, group.alpha >= 0.5, (60, 120, 230)), state)]
    for image, name, severity, injured in zip(
        group.candidates, group.injected, group.severities, group.injured, strict=True
    ):
        words = f"{name.replace('_', ' ')} {severity:.2f}" if name else "clean"
        tiles.append((_outlined(image, injured, _FAULT), words))
    return tiles


def _outlined(
    image: NDArray[np.uint8], region: NDArray[np.bool_], colour: tuple[int, int, int]
) -> Image.Image:
    shown = image.copy()
    edge = region.copy()
    edge[1:-1, 1:-1] &= ~(
        region[:-2, 1:-1] & region[2:, 1:-1] & region[1:-1, :-2] & region[1:-1, 2:] & region[1:-1, 1:-1]
    )
    shown[edge] = colour
    return Image.fromarray(shown)
