"""Pixels as bytes: Krita's BGRA to PNG, what an edit changed, and the colours of a heat map.

Everything works on rows, so that no step holds the interpreter for long: these functions run beside Krita's own thread.
"""

from __future__ import annotations

import base64
import struct
import zlib
from itertools import islice
from typing import Iterable, Iterator, List, Sequence

__all__ = [
    "base64_parts",
    "change_mask",
    "encode_grey",
    "encode_picture",
    "heat_layer",
    "limited",
    "rows_of",
    "widened",
    "with_alpha",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _RGBA = 0, 2, 6
_BASE64_BYTES = 3 << 15
_NOT_ZERO = bytes([0] + [255] * 255)


def encode_picture(bgra: Sequence[bytes], width: int, height: int) -> bytes:
    """A PNG of (height, width) BGRA bytes in slices of whole rows; with alpha if something is transparent."""
    is_opaque = all(row[3::4] == b"\xff" * width for row in rows_of(bgra, 4 * width))
    kind, channels = (_RGB, 3) if is_opaque else (_RGBA, 4)
    return _png(kind, width, height, (_reordered(row, channels) for row in rows_of(bgra, 4 * width)))


def encode_grey(mask: Sequence[bytes], width: int, height: int) -> bytes:
    """A one-channel PNG of (height, width) bytes in slices of whole rows."""
    return _png(_GREY, width, height, rows_of(mask, width))


def rows_of(parts: Iterable[bytes], length: int) -> Iterator[bytes]:
    """The rows of slices, each of so many bytes."""
    return (row for part in parts for row in _rows(part, length))


def base64_parts(data: bytes) -> List[bytes]:
    """The base64 of some bytes, in parts that join to it."""
    return [base64.b64encode(data[at : at + _BASE64_BYTES]) for at in range(0, len(data), _BASE64_BYTES)]


def change_mask(before: bytes, after: bytes, selection: bytes, width: int) -> bytes:
    """What a result needs of its layer, one byte a pixel: 255 where it differs from before or is selected, else 0.

    before, after: BGRA rows of one size. selection: one byte a pixel.
    """
    rows = []
    for old, new, chosen in zip(_rows(before, 4 * width), _rows(after, 4 * width), _rows(selection, width)):
        changed = int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
        apart = changed.to_bytes(4 * width, "little")
        joined = _int(apart[0::4]) | _int(apart[1::4]) | _int(apart[2::4]) | _int(chosen)
        rows.append(joined.to_bytes(width, "little").translate(_NOT_ZERO))
    return b"".join(rows)


def widened(mask: Sequence[bytes], width: int, radius: int) -> List[bytes]:
    """A mask of one byte a pixel in slices of whole rows, hard, and grown by `radius` pixels to every side."""
    margin, whole = [0] * radius, (1 << 8 * width) - 1
    rows = [_spread(_int(row.translate(_NOT_ZERO)), radius) & whole for row in rows_of(mask, width)]
    rows = [*margin, *rows, *margin]  # what is cut off at a border too early leaves gaps
    for step in _strides(radius):
        none = [0] * step
        rows = [row | up | down for row, up, down in zip(rows, none + rows[:-step], rows[step:] + none)]
    grown = iter(rows[radius : len(rows) - radius])
    heights = [len(part) // width for part in mask]
    return [b"".join(row.to_bytes(width, "little") for row in islice(grown, height)) for height in heights]


def limited(mask: bytes, limit: bytes) -> bytes:
    """A hard mask within another one of the same size."""
    return (_int(mask) & _int(limit)).to_bytes(len(mask), "little")


def _spread(row: int, radius: int) -> int:
    row <<= 8 * radius
    for step in _strides(radius):
        row |= row << 8 * step | row >> 8 * step
    return row >> 8 * radius


def _strides(radius: int) -> Iterator[int]:
    """Steps that add up to a radius, none longer than one more than twice what came before, so that no gap is left."""
    reached = 0
    while reached < radius:
        step = min(2 * reached + 1, radius - reached)
        yield step
        reached += step


def with_alpha(bgra: bytes, alpha: bytes, width: int) -> bytes:
    """The picture with another alpha channel."""
    rows = []
    for row, levels in zip(_rows(bgra, 4 * width), _rows(alpha, width)):
        own = bytearray(row)
        own[3::4] = levels
        rows.append(bytes(own))
    return b"".join(rows)


def heat_layer(heat: bytes, width: int) -> bytes:
    """A heat map, one byte a pixel, as BGRA: yellow for faint faults, red for grave ones, clear where there is none."""
    green = bytes(max(0, 230 - round(0.9 * level)) for level in range(256))
    alpha = bytes(min(255, round(1.6 * level)) for level in range(256))
    rows = []
    for levels in _rows(heat, width):
        row = bytearray(4 * width)
        row[1::4], row[2::4], row[3::4] = levels.translate(green), b"\xff" * width, levels.translate(alpha)
        rows.append(bytes(row))
    return b"".join(rows)


def _rows(data: bytes, length: int) -> Iterator[bytes]:
    return (data[at : at + length] for at in range(0, len(data), length))


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _reordered(row: bytes, channels: int) -> bytes:
    own = bytearray(channels * (len(row) // 4))
    for place, channel in enumerate((2, 1, 0, 3)[:channels]):
        own[place::channels] = row[channel::4]
    return bytes(own)


def _png(kind: int, width: int, height: int, rows: Iterator[bytes]) -> bytes:
    deflate = zlib.compressobj(1)
    data = [deflate.compress(b"\0" + row) for row in rows]
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    body = b"".join([*data, deflate.flush()])
    return b"".join([_PNG, _chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND", b"")])


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
