"""Which part of the canvas travels to the server, and in which slices it is read."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

__all__ = ["MAX_SIDE", "Region", "bands", "context_region", "fitted", "reduction"]

MAX_SIDE = 1536
"""Longest side that is sent, in pixels; what is larger is scaled down for the way and up again for the layer."""

_CONTEXT = 2.0  # side of the crop over the longer side of the selection
_MIN_CONTEXT_PX = 512  # a small selection still needs a picture round it, to compare with
_BAND_PIXELS = 1 << 17  # read in well under 50 ms on a slow machine


class Region(NamedTuple):
    """A rectangle of the canvas, in pixels; right and bottom are exclusive."""

    x: int
    y: int
    width: int
    height: int

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is in it."""
        return self.width <= 0 or self.height <= 0

    def within(self, other: Region) -> Region:
        """What of it lies in the other."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Region(left, top, max(0, right - left), max(0, bottom - top))


def context_region(selection: Region, canvas: Region) -> Region:
    """The crop of the canvas that shows a selection in its surroundings.

    Twice the selection's longer side, at least 512 px, moved into the canvas and cut to it. Empty when the
    selection has nothing on the canvas.
    """
    seen = selection.within(canvas)
    if seen.is_empty:
        return Region(0, 0, 0, 0)
    side = max(round(_CONTEXT * max(seen.width, seen.height)), _MIN_CONTEXT_PX)
    x, width = _span(seen.x, seen.width, side, canvas.x, canvas.width)
    y, height = _span(seen.y, seen.height, side, canvas.y, canvas.height)
    return Region(x, y, width, height)


def _span(start: int, length: int, wanted: int, low: int, extent: int) -> Tuple[int, int]:
    size = min(max(wanted, length), extent)
    first = start + length // 2 - size // 2
    return min(max(first, low), low + extent - size), size


def bands(region: Region) -> Iterator[Region]:
    """The region in slices of whole rows, each quick to read or write."""
    rows = max(1, _BAND_PIXELS // max(1, region.width))
    for top in range(0, region.height, rows):
        yield Region(region.x, region.y + top, region.width, min(rows, region.height - top))


def reduction(width: int, height: int) -> int:
    """How many pixels of a crop of this size become one on the way, across and down."""
    return -(-max(width, height, 1) // MAX_SIDE)


def fitted(width: int, height: int) -> Tuple[int, int]:
    """The size at which a crop of this size travels: its own, or a whole fraction of it that is within MAX_SIDE."""
    by = reduction(width, height)
    return -(-width // by), -(-height // by)
