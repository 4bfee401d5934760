"""All that the source and the mask alone decide, measured once for every candidate of an edit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.evidence.bands import find_bands
from editcritic.server.critics.evidence.border import find_border
from editcritic.server.critics.evidence.compression import grid_excess, window_blockiness
from editcritic.server.critics.evidence.detail import DetailReference, detail_reference
from editcritic.server.critics.evidence.fill import black_map, flat_map, window_shares
from editcritic.server.critics.evidence.leftovers import structure
from editcritic.server.critics.evidence.repeats import find_repeat
from editcritic.server.critics.evidence.seam import BorderReference, border_reference
from editcritic.server.critics.views import Planes, Views, crop_planes, make_views, outside_of

__all__ = ["Scene", "find_windows", "prepare_scene"]

Windows = list[tuple[slice, slice]]

MAX_WINDOWS = 24
MIN_WINDOW_PX = 24
FREE_SHARE = 0.85


@dataclass(frozen=True, eq=False)
class Scene:
    """An edit, prepared.

    Attributes:
        views: crop and regions.
        source: the crop of the source.
        outside: (H, W) bool of the whole photograph.
        structure: (h, w) fine structure of the source.
        windows: places outside of about the mask's size.
        border: None when the mask has no border within the photograph.
        detail: None when too little lies outside.
        blockiness, flat, black, bands: figures of the windows.
        repeat_area: pixels that stand twice in the photograph itself.
    """

    views: Views
    source: Planes
    outside: NDArray[np.bool_]
    structure: NDArray[np.float32]
    windows: Windows
    border: BorderReference | None
    detail: DetailReference | None
    blockiness: NDArray[np.float64]
    flat: NDArray[np.float64]
    black: NDArray[np.float64]
    bands: NDArray[np.float64]
    repeat_area: int


def prepare_scene(edit: DecodedEdit) -> Scene:
    """Cut the crop and measure what the photograph does outside the mask."""
    views = make_views(edit)
    source = crop_planes(edit.source, views)
    windows = find_windows(views)
    border = find_border(views) if views.outside.any() else None
    repeated = find_repeat(source.luma, views.outside, views.outside)
    return Scene(
        views=views,
        source=source,
        outside=outside_of(edit),
        structure=structure(source),
        windows=windows,
        border=border_reference(border, views, source) if border else None,
        detail=detail_reference(views, source.luma, windows),
        blockiness=window_blockiness(grid_excess(source.luma), views.outside, windows),
        flat=window_shares(flat_map(source), views.outside, windows),
        black=window_shares(black_map(source), views.outside, windows),
        bands=window_shares(find_bands(source.rgb).found, views.outside, windows),
        repeat_area=repeated.area,
    )


def find_windows(views: Views) -> Windows:
    """Squares of about the inside's area that lie (mostly) outside; smaller ones where those do not fit."""
    height, width = views.outside.shape
    total = cv2.integral(views.outside.astype(np.uint8))
    side = int(min(np.sqrt(views.inside.sum()), height, width))
    while side >= MIN_WINDOW_PX:
        stride = max(4, side // 3)
        rows = np.arange(0, height - side + 1, stride)
        columns = np.arange(0, width - side + 1, stride)
        top, left = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
        area = (
            total[top + side, left + side]
            - total[top, left + side]
            - total[top + side, left]
            + total[top, left]
        )
        free = np.flatnonzero(area >= FREE_SHARE * side * side)
        if free.size >= 6:
            chosen = free[np.linspace(0, free.size - 1, min(MAX_WINDOWS, free.size)).astype(int)]
            return [
                (slice(int(top[i]), int(top[i]) + side), slice(int(left[i]), int(left[i]) + side))
                for i in chosen
            ]
        side = int(side * 0.7)
    return []
