"""Picture files as an attacker would write them, built from nothing; each is a few kilobytes, or says so."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["app_segment", "chunk", "file_of", "jpeg", "png", "riff", "webp", "with_chunks", "with_segments"]


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


def png(width: int = 16, height: int = 12) -> bytes:
    return file_of(noise(width, height), "PNG")


def jpeg(width: int = 16, height: int = 12, **options: Any) -> bytes:
    return file_of(noise(width, height), "JPEG", **options)


def webp(width: int = 16, height: int = 12, **options: Any) -> bytes:
    return file_of(noise(width, height), "WEBP", **options)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its check sum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    """A good PNG with further chunks behind its header."""
    whole = png()
    behind_header = 8 + 12 + 13
    return whole[:behind_header] + b"".join(chunks) + whole[behind_header:]


def app_segment(number: int, data: bytes) -> bytes:
    """A JPEG application segment."""
    return b"\xff" + bytes([0xE0 + number]) + struct.pack(">H", len(data) + 2) + data


def with_segments(*segments: bytes) -> bytes:
    """A good JPEG with further segments at its beginning."""
    whole = jpeg()
    return whole[:2] + b"".join(segments) + whole[2:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body
