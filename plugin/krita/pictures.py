"""Picture files to pixels and back to the canvas' size, by Qt; safe in any thread."""

from __future__ import annotations

from typing import Any, Tuple

from .qt import QtCore, QtGui
from .rasters import encode_grey, encode_picture
from .regions import Region, fitted

__all__ = ["decode_grey", "decode_picture", "sent_mask", "sent_picture", "thumbnail"]

_SMOOTH = QtCore.Qt.TransformationMode.SmoothTransformation
_EXACTLY = QtCore.Qt.AspectRatioMode.IgnoreAspectRatio
_EXPANDING = QtCore.Qt.AspectRatioMode.KeepAspectRatioByExpanding
_COLOUR, _GREY = QtGui.QImage.Format.Format_ARGB32, QtGui.QImage.Format.Format_Grayscale8


def sent_picture(bgra: bytes, width: int, height: int) -> bytes:
    """The file that is sent of (height, width) BGRA rows: a PNG of at most MAX_SIDE."""
    size = fitted(width, height)
    if size != (width, height):
        whole = QtGui.QImage(bgra, width, height, 4 * width, _COLOUR)
        bgra = _bytes(whole.scaled(*size, _EXACTLY, _SMOOTH).convertToFormat(_COLOUR), 4)
    return encode_picture(bgra, *size)


def sent_mask(levels: bytes, width: int, height: int) -> bytes:
    """The file that is sent of (height, width) mask levels: a PNG of at most MAX_SIDE."""
    size = fitted(width, height)
    if size != (width, height):
        whole = QtGui.QImage(levels, width, height, width, _GREY)
        levels = _bytes(whole.scaled(*size, _EXACTLY, _SMOOTH).convertToFormat(_GREY), 1)
    return encode_grey(levels, *size)


def decode_picture(data: bytes, width: int, height: int) -> bytes:
    """BGRA rows of a picture file, at this size. Raises: ValueError when it is none."""
    return _bytes(_scaled(data, width, height).convertToFormat(_COLOUR), 4)


def decode_grey(data: bytes, width: int, height: int) -> bytes:
    """Levels of a one-channel picture file, one byte a pixel, at this size. Raises: ValueError when it is none."""
    return _bytes(_scaled(data, width, height).convertToFormat(_GREY), 1)


def thumbnail(data: bytes, focus: Region, size: Tuple[int, int], side: int) -> Any:
    """A square QImage of the part of a picture file that `focus` names, in pixels of a crop of `size`."""
    image = QtGui.QImage.fromData(data)
    scale = image.width() / max(1, size[0])
    longest = round(1.2 * max(focus.width, focus.height) * scale)
    middle_x = round((focus.x + focus.width / 2) * scale)
    middle_y = round((focus.y + focus.height / 2) * scale)
    longest = min(longest, image.width(), image.height())
    left = min(max(0, middle_x - longest // 2), image.width() - longest)
    top = min(max(0, middle_y - longest // 2), image.height() - longest)
    return image.copy(left, top, longest, longest).scaled(side, side, _EXPANDING, _SMOOTH)


def _scaled(data: bytes, width: int, height: int) -> Any:
    image = QtGui.QImage.fromData(data)
    if image.isNull():
        raise ValueError("the server sent a picture that cannot be read")
    same = (image.width(), image.height()) == (width, height)
    return image if same else image.scaled(width, height, _EXACTLY, _SMOOTH)


def _bytes(image: Any, channels: int) -> bytes:
    """Rows without the padding that Qt adds to them."""
    row, stride = channels * image.width(), image.bytesPerLine()
    bits = image.constBits()
    bits.setsize(image.sizeInBytes() if hasattr(image, "sizeInBytes") else image.byteCount())
    data = bytes(bits)
    if row == stride:
        return data
    return b"".join(data[at * stride : at * stride + row] for at in range(image.height()))
