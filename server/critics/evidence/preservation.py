"""Preservation: what changed where nothing should have.

The whole photograph is compared, in stripes, so that a large one costs little memory. One or two levels are
what saving a file again does; only what exceeds them counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.change import largest_change
from editcritic.server.critics.evidence.calibration import OUTSIDE_LEAK, OUTSIDE_LOCAL
from editcritic.server.critics.finding import Finding, figure
from editcritic.server.critics.views import Bounds, Views
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Leak", "find_leak", "judge_outside", "outside_figures"]

TOLERANCE_LEVELS = 2
"""What encoding the same pixels again changes."""
CHANGED_LEVELS = 5
"""A pixel that differs by more than this counts as changed."""
LOCAL_PX = 9
"""Side of the window in which a local leak has to hold together."""
STRIPE_ROWS = 256
_MAX_COLOUR_SAMPLES = 4096
_DELTA_E: Callable[..., NDArray[np.floating]] = deltaE_ciede2000


@dataclass(frozen=True, eq=False)
class Leak:
    """Change outside the mask.

    Attributes:
        mean: mean change beyond the tolerance, in levels.
        changed_share: share of changed pixels.
        largest: largest change, in levels.
        local: largest mean change beyond the tolerance in a small window, in levels.
        shift: mean signed change of red, green and blue, in levels.
        delta_e: mean CIEDE2000 over a sample of the changed pixels; 0 without any.
        place: where `local` stands, row and column in the photograph.
        extent: first and last row, first and last column of the changed pixels; None without any.
    """

    mean: float
    changed_share: float
    largest: int
    local: float
    shift: tuple[float, float, float]
    delta_e: float
    place: tuple[int, int]
    extent: tuple[int, int, int, int] | None = None


def find_leak(edit: DecodedEdit, candidate: NDArray[np.uint8], outside: NDArray[np.bool_]) -> Leak | None:
    """Compare source and candidate outside the mask; None when there is no outside.

    Args:
        candidate: (H, W, 3) uint8.
        outside: (H, W) bool.
    """
    total = int(np.count_nonzero(outside))
    if total == 0:
        return None
    beyond_sum, changed, largest, local, place = 0.0, 0, 0, 0.0, (0, 0)
    extents: list[tuple[int, int, int, int]] = []
    shift, samples = np.zeros(3), [0.0]
    for start in range(0, outside.shape[0], STRIPE_ROWS):
        rows = slice(start, start + STRIPE_ROWS)
        here, before, after = outside[rows], edit.source[rows], candidate[rows]
        change = np.where(here, largest_change(before, after), np.uint8(0))
        peak = int(change.max(initial=0))
        if peak == 0:
            continue
        beyond = np.maximum(change.astype(np.float32) - TOLERANCE_LEVELS, 0)
        beyond_sum += float(beyond.sum())
        changed += int(np.count_nonzero(change > CHANGED_LEVELS))
        extents += _extent(change > CHANGED_LEVELS, start)
        largest = max(largest, peak)
        shift += (after.astype(np.int16) - before)[here].sum(axis=0, dtype=np.float64)
        samples += _colour_differences(before, after, change)
        window = cv2.boxFilter(beyond, -1, (LOCAL_PX, LOCAL_PX), borderType=cv2.BORDER_CONSTANT)
        if float(window.max()) > local:
            local = float(window.max())
            row, column = np.unravel_index(int(window.argmax()), window.shape)
            place = (int(row) + start, int(column))
    red, green, blue = (shift / total).tolist()
    return Leak(
        beyond_sum / total,
        changed / total,
        largest,
        local,
        (red, green, blue),
        float(np.mean(samples)),
        place,
        _joined(extents),
    )


def judge_outside(leak: Leak, edit: DecodedEdit, candidate: NDArray[np.uint8], views: Views) -> Finding:
    """The finding, with a map of the crop."""
    strength = max(leak.mean / OUTSIDE_LEAK, leak.local / OUTSIDE_LOCAL)
    part = largest_change(edit.source[views.crop.slices], candidate[views.crop.slices])
    size = (views.inside.shape[1], views.inside.shape[0])
    change = cv2.resize(part.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    change = cv2.GaussianBlur(
        np.where(views.outside, np.maximum(change - TOLERANCE_LEVELS, 0), 0), (0, 0), 2.0
    )
    row, column = leak.place
    height, width = edit.source.shape[:2]
    wide = leak.changed_share > 0.5
    box = Bounds(0, 0, width, height) if wide else _around(leak, height, width)
    return Finding(
        pb.DEFECT_KIND_OUTSIDE_CHANGED,
        strength,
        outside_figures(leak),
        (change / max(float(change.max()), 8.0)).astype(np.float32),
        "all over the picture" if wide else f"most around ({column}, {row})",
        photo_box=box.to_box(),
    )


def _around(leak: Leak, height: int, width: int) -> Bounds:
    """The changed pixels' rectangle; where none stands out, the place of the strongest change."""
    if leak.extent is not None:
        top, bottom, left, right = leak.extent
        return Bounds(left, top, right - left + 1, bottom - top + 1)
    row, column = leak.place
    x, y = max(0, column - LOCAL_PX // 2), max(0, row - LOCAL_PX // 2)
    return Bounds(x, y, min(LOCAL_PX, width - x), min(LOCAL_PX, height - y))


def _extent(changed: NDArray[np.bool_], first_row: int) -> list[tuple[int, int, int, int]]:
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if rows.size == 0:
        return []
    return [(int(rows[0]) + first_row, int(rows[-1]) + first_row, int(columns[0]), int(columns[-1]))]


def _joined(extents: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int] | None:
    if not extents:
        return None
    tops, bottoms, lefts, rights = zip(*extents, strict=True)
    return min(tops), max(bottoms), min(lefts), max(rights)


def outside_figures(leak: Leak) -> list[pb.Measurement]:
    """All figures of a leak; they also describe a candidate without one."""
    strongest = max(leak.shift, key=abs)
    return [
        figure("outside_change_mean", leak.mean, "levels", 0.0, OUTSIDE_LEAK),
        figure("outside_change_local", leak.local, "levels", 0.0, OUTSIDE_LOCAL),
        figure("outside_changed_share", leak.changed_share, "fraction"),
        figure("outside_change_max", leak.largest, "levels"),
        figure("outside_shift", strongest, "levels"),
        figure("outside_delta_e", leak.delta_e, "CIEDE2000"),
    ]


def _colour_differences(
    before: NDArray[np.uint8], after: NDArray[np.uint8], change: NDArray[np.uint8]
) -> list[float]:
    """CIEDE2000 of a regular sample of the changed pixels."""
    rows, columns = np.nonzero(change > CHANGED_LEVELS)
    if rows.size == 0:
        return []
    step = max(1, rows.size // (_MAX_COLOUR_SAMPLES // 8))
    one, other = before[rows[::step], columns[::step]], after[rows[::step], columns[::step]]
    found: list[float] = np.asarray(_DELTA_E(rgb2lab(one), rgb2lab(other))).tolist()
    return found
