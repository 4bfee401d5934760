"""What a picture file says of itself, read without decoding anything: format, size, frames, and what travels along.

Only lengths and a few header bytes are looked at, in bounded time and memory, so that a hostile file is refused before
any library takes it apart. What it promises is checked against the decoder later; the files are described in the PNG
(https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81) and WebP (RFC 9649) specifications.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["MAX_CHUNKS", "ContainerError", "Header", "read_header", "without_extras"]

FormatName = Literal["PNG", "JPEG", "WEBP"]
MAX_CHUNKS = 20_000
"""Chunks of a PNG or a WebP, or segments of a JPEG, that are looked at."""
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PACKED = (b"iCCP", b"zTXt", b"iTXt")
# Start of frame, in all its kinds: SOF0 to SOF15 without DHT, JPG and DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


class ContainerError(ValueError):
    """The bytes are no PNG, JPEG or WebP, or their structure is broken."""


@dataclass
class Header:
    """What the file says.

    Attributes:
        format: of the file.
        width: in pixels. height: in pixels.
        is_animated: it has further frames.
        profile_bytes: of the colour profile, as it is unpacked.
        exif_bytes: of EXIF.
        metadata_bytes: of XMP, texts and all else, as they are unpacked.
        scans: of a JPEG; each is a pass over the whole picture.
    """

    format: FormatName
    width: int = 0
    height: int = 0
    is_animated: bool = False
    profile_bytes: int = 0
    exif_bytes: int = 0
    metadata_bytes: int = 0
    scans: int = 0


def read_header(data: bytes, unpack_limit: int = 4 << 20) -> Header:
    """The header of a file's bytes.

    Args:
        data: the whole file, or its beginning: a file that breaks off behind its size is not refused here.
        unpack_limit: bytes of texts or profile after which nothing more is unpacked or looked at.

    Raises:
        ContainerError: it is none of the formats, or its structure is broken.
    """
    if data.startswith(_PNG):
        header = _read_png(data, unpack_limit)
    elif data.startswith(b"\xff\xd8\xff"):
        header = _read_jpeg(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        header = _read_webp(data)
    else:
        raise ContainerError("it begins like none of them")
    if header.width < 1 or header.height < 1:
        raise ContainerError("it does not say its size")
    return header


def _read_png(data: bytes, unpack_limit: int) -> Header:
    header = Header("PNG")
    chunks = _png_chunks(data)
    kind, start, length = next(chunks, (b"", 0, 0))
    if kind != b"IHDR" or length != 13 or len(data) < start + 8:
        raise ContainerError("a PNG begins with its header")
    header.width, header.height = struct.unpack_from(">II", data, start)
    for kind, start, length in chunks:
        if kind in (b"acTL", b"fdAT"):
            header.is_animated = header.is_animated or kind == b"fdAT" or _frame_count(data, start) > 1
        elif kind == b"iCCP":
            header.profile_bytes += _unpacked(kind, data[start : start + length], unpack_limit)
        elif kind in _TEXTS:
            header.metadata_bytes += _unpacked(kind, data[start : start + length], unpack_limit)
        elif kind == b"eXIf":
            header.exif_bytes += length
        if max(header.metadata_bytes, header.profile_bytes) > unpack_limit:
            break
    return header


def without_extras(data: bytes) -> bytes:
    """A PNG without its colour profile and packed texts, on which no pixel depends; any other file as it is.

    Pillow unpacks them whether they are asked for or not, and takes a file apart no further when one has over 1 MiB.
    """
    if not data.startswith(_PNG):
        return data
    kept, end = [data[: len(_PNG)]], len(_PNG)
    for kind, start, length in _png_chunks(data):
        end = start + length + 4
        if kind not in _PACKED:
            kept.append(data[start - 8 : end])
    return b"".join([*kept, data[end:]])


def _frame_count(data: bytes, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "big")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of its data, length) of each chunk; the last may reach beyond the end."""
    position = len(_PNG)
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, position + 8, length
        if kind == b"IEND":
            return
        position += 12 + length
    raise ContainerError(f"it has over {MAX_CHUNKS:,} chunks")


def _unpacked(kind: bytes, chunk: bytes, limit: int) -> int:
    """Bytes of a text or profile once its zlib stream is unpacked, up to one more than the limit."""
    # Behind the name: a byte for the method; in iTXt whether it is packed, the method, a language and a translation.
    rest = chunk.partition(b"\0")[2]
    packed = rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest[1:]
    try:
        unpacked = zlib.decompressobj().decompress(packed, limit + 1)
    except zlib.error:
        unpacked = b""
    return max(len(chunk), len(unpacked))


def _read_jpeg(data: bytes) -> Header:
    header = Header("JPEG")
    for marker, start, length in _jpeg_segments(data):
        body = data[start : start + min(length, 32)]
        if marker in _SOF and header.width == 0 and len(body) >= 5:
            header.height, header.width = struct.unpack_from(">HH", body, 1)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            header.profile_bytes += length
        elif marker == 0xE1 and body.startswith(b"Exif\0"):
            header.exif_bytes += length
        elif 0xE0 <= marker <= 0xEF or marker == 0xFE:
            header.metadata_bytes += length
        elif marker == 0xDA:
            # Inside a scan every FF is followed by a zero or a restart, so this finds scans alone.
            header.scans = data.count(b"\xff\xda", start - 4)
    return header


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start of its body, length) of each segment up to and with the first scan."""
    position = 2
    for _ in range(MAX_CHUNKS):
        position = data.find(b"\xff", position)
        if position < 0 or position + 4 > len(data):
            return
        marker = data[position + 1]
        if marker in (0x00, 0xFF) or marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:
            raise ContainerError("a JPEG segment is shorter than its own length")
        yield marker, position + 4, length - 2
        if marker == 0xDA:
            return
        position += 2 + length
    raise ContainerError(f"it has over {MAX_CHUNKS:,} segments")


def _read_webp(data: bytes) -> Header:
    header = Header("WEBP")
    for kind, start, length in _webp_chunks(data):
        body = data[start : start + 10]
        if kind in (b"VP8X", b"VP8L", b"VP8 "):
            width, height = _webp_size(kind, body)
            # The canvas is what is allocated, and a frame may claim another size than it has.
            header.width, header.height = max(header.width, width), max(header.height, height)
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and body[0] & 0x02):
            header.is_animated = True
        elif kind == b"ICCP":
            header.profile_bytes += length
        elif kind == b"EXIF":
            header.exif_bytes += length
        elif kind not in (b"VP8X", b"VP8L", b"VP8 ", b"ALPH"):
            header.metadata_bytes += length
    return header


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, position + 8, length
        position += 8 + length + (length & 1)
    raise ContainerError(f"it has over {MAX_CHUNKS:,} chunks")


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    if len(body) < 10 and not (kind == b"VP8L" and len(body) >= 5):
        raise ContainerError("a WebP breaks off before its size")
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(body[1:5], "little")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
