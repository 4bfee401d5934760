"""A page of small pictures in rows, each row with its label: what a person looks at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from editcritic.plugin.overlay import mask_outline

__all__ = ["SheetRow", "close_up", "contact_sheet", "outlined"]

_GAP, _LABEL = 8, 22
_PAPER, _INK = (250, 250, 248), (40, 40, 40)
_CONTEXT = 2.2


@dataclass(frozen=True)
class SheetRow:
    """One row. label: stands above it. pictures: (h, w, 3) uint8 each, with a caption below each."""

    label: str
    pictures: Sequence[tuple[str, NDArray[np.uint8]]]


def close_up(mask: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """The square round a mask (H, W) that shows the edit: left, top, right, bottom in pixels, inside the picture."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.max(axis=1) > 0), np.flatnonzero(mask.max(axis=0) > 0)
    wanted = round(_CONTEXT * max(np.ptp(rows), np.ptp(columns)) + 16)
    x, y = (int(columns[0]) + int(columns[-1])) // 2, (int(rows[0]) + int(rows[-1])) // 2

    def span(middle: int, extent: int) -> tuple[int, int]:
        length = min(wanted, extent)
        start = min(max(0, middle - length // 2), extent - length)
        return start, start + length

    (left, right), (top, bottom) = span(x, width), span(y, height)
    return left, top, right, bottom


def contact_sheet(rows: Sequence[SheetRow], side: int = 192) -> NDArray[np.uint8]:
    """All rows on one page, pictures scaled to fit into `side` x `side` pixels: (H, W, 3) uint8."""
    fitted = [[(caption, _fitted(picture, side)) for caption, picture in row.pictures] for row in rows]
    heights = [max((image.height for _, image in row), default=0) + 2 * _LABEL + _GAP for row in fitted]
    width = _GAP + max(len(row) for row in fitted) * (side + _GAP)
    page = Image.new("RGB", (width, _GAP + sum(heights)), _PAPER)
    draw, font, top = ImageDraw.Draw(page), ImageFont.load_default(size=13), _GAP
    for row, images, height in zip(rows, fitted, heights, strict=True):
        draw.text((_GAP, top), row.label, _INK, font)
        for column, (caption, image) in enumerate(images):
            left = _GAP + column * (side + _GAP)
            page.paste(image, (left, top + _LABEL))
            draw.text((left, top + height - _LABEL - _GAP + 2), caption, _INK, font)
        top += height
    return np.asarray(page)


def _fitted(picture: NDArray[np.uint8], side: int) -> Image.Image:
    image = Image.fromarray(picture)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def outlined(picture: NDArray[np.uint8], mask: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture with the mask's outline on it, for the first place of a sheet."""
    marked = picture.copy()
    outer, inner = mask_outline(mask)
    marked[outer], marked[inner] = 255, 0
    return marked
