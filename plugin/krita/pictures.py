"""Picture files to pixels and back to the canvas' size, by Qt; safe in any thread.

Files are read by QImageReader, which lets Krita's thread run meanwhile, and everything else is done in slices: a thread
that holds the interpreter for long holds Krita's own, too.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence, Tuple

from .qt import QtCore, QtGui
from .rasters import encode_grey, encode_picture, rows_of
from .regions import Region, bands, fitted, reduction

__all__ = ["decode_grey", "decode_picture", "sent_mask", "sent_picture", "thumbnail"]

_SMOOTH = QtCore.Qt.TransformationMode.SmoothTransformation
_EXACTLY = QtCore.Qt.AspectRatioMode.IgnoreAspectRatio
_COLOUR, _GREY = QtGui.QImage.Format.Format_ARGB32, QtGui.QImage.Format.Format_Grayscale8
_OPAQUE = QtGui.QImage.Format.Format_RGB32
_GROUP_ROWS = 32


def sent_picture(bgra: Sequence[bytes], width: int, height: int) -> bytes:
    """The file that is sent of (height, width) BGRA rows in slices: a PNG of at most MAX_SIDE."""
    return encode_picture(_reduced(bgra, width, height, _COLOUR, 4), *fitted(width, height))


def sent_mask(levels: Sequence[bytes], width: int, height: int) -> bytes:
    """The file that is sent of (height, width) mask levels in slices: a PNG of at most MAX_SIDE."""
    return encode_grey(_reduced(levels, width, height, _GREY, 1), *fitted(width, height))


def decode_picture(data: bytes, width: int, height: int) -> List[bytes]:
    """BGRA rows of a picture file at this size, in slices like `bands`. Raises: ValueError when it is none."""
    image = _read(data, width, height)
    # Opaque pictures come in the same layout, and converting a large one would hold the interpreter.
    return _sliced(image if image.format() == _OPAQUE else image.convertToFormat(_COLOUR), 4)


def decode_grey(data: bytes, width: int, height: int) -> List[bytes]:
    """Levels of a one-channel picture file at this size, in slices like `bands`. Raises: ValueError when it is none."""
    return _sliced(_read(data, width, height).convertToFormat(_GREY), 1)


def thumbnail(data: bytes, focus: Region, size: Tuple[int, int], side: int) -> Any:
    """A square QImage of the part of a picture file that `focus` names, in pixels of a crop of `size`."""
    reader, _device = _reader(data)
    sent = reader.size()
    scale = sent.width() / max(1, size[0])
    longest = min(round(1.2 * max(focus.width, focus.height) * scale), sent.width(), sent.height())
    left = round((focus.x + focus.width / 2) * scale) - longest // 2
    top = round((focus.y + focus.height / 2) * scale) - longest // 2
    left, top = (
        min(max(0, each), extent - longest) for each, extent in ((left, sent.width()), (top, sent.height()))
    )
    reader.setClipRect(QtCore.QRect(left, top, longest, longest))
    return reader.read().scaled(side, side, _EXACTLY, _SMOOTH)


def _reduced(parts: Sequence[bytes], width: int, height: int, kind: Any, channels: int) -> Sequence[bytes]:
    by = reduction(width, height)
    if by == 1:
        return parts
    return [
        b"".join(_sliced(_reduced_group(group, width, by, kind, channels), channels))
        for group in _groups(rows_of(parts, channels * width), by * _GROUP_ROWS)
    ]


def _reduced_group(rows: List[bytes], width: int, by: int, kind: Any, channels: int) -> Any:
    image = QtGui.QImage(b"".join(rows), width, len(rows), channels * width, kind)
    small = image.scaled(-(-width // by), -(-len(rows) // by), _EXACTLY, _SMOOTH)
    return small.convertToFormat(kind)


def _groups(rows: Iterator[bytes], count: int) -> Iterator[List[bytes]]:
    group: List[bytes] = []
    for row in rows:
        group.append(row)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group


def _reader(data: bytes) -> Tuple[Any, Any]:
    """A reader of a file's bytes, and what must live as long as it."""
    device = QtCore.QBuffer()
    device.setData(data)
    device.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    return QtGui.QImageReader(device), device


def _read(data: bytes, width: int, height: int) -> Any:
    reader, _device = _reader(data)
    if (reader.size().width(), reader.size().height()) != (width, height):
        reader.setScaledSize(QtCore.QSize(width, height))
    image = reader.read()
    if image.isNull():
        raise ValueError("the server sent a picture that cannot be read")
    return image


def _sliced(image: Any, channels: int) -> List[bytes]:
    """Rows in slices like `bands`, without the padding that Qt adds to them."""
    row, stride = channels * image.width(), image.bytesPerLine()
    bits = image.constBits()
    bits.setsize(stride * image.height())
    view = memoryview(bits)
    return [
        b"".join(bytes(view[at * stride : at * stride + row]) for at in range(band.y, band.y + band.height))
        for band in bands(Region(0, 0, image.width(), image.height()))
    ]
