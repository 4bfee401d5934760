"""A process that decodes pictures and can do nothing else: ``python -m editcritic.server.decoder_worker``.

It speaks over the socket that is its standard input. A request is a head and a file's bytes; an answer is a head and
pixels, or the bytes of a ``google.rpc.Status``. Memory and files are limited before the first request, so
that a picture that makes the image library misbehave ends this process and nothing else.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError
from editcritic.v1.images import Encoding, ImageLimits, decode_image, decode_mask, encode_image

__all__ = [
    "ANSWER",
    "MASK",
    "PICTURE",
    "READY",
    "REQUEST",
    "Readable",
    "as_argument",
    "confine",
    "decode",
    "main",
    "memory_limit",
    "receive",
    "serve",
]

REQUEST = struct.Struct("<BBQ")
"""Kind, declared format, bytes that follow."""
ANSWER = struct.Struct("<BIIBQ")
"""1 for pixels or 0 for an error, height, width, channels, bytes that follow."""
PICTURE, MASK = 0, 1
READY = b"\1"
_BASE_BYTES = 512 * 2**20
# Pillow holds four bytes a pixel, and a see-through picture has four copies at its worst, then NumPy's two.
_BYTES_PER_PIXEL = 28

Decode = Callable[[int, pb.Image, ImageLimits], NDArray[Any]]


def memory_limit(limits: ImageLimits) -> int:
    """Bytes of address space that decoding the largest picture of the limits takes at most."""
    return _BASE_BYTES + _BYTES_PER_PIXEL * limits.max_pixels


def decode(kind: int, message: pb.Image, limits: ImageLimits) -> NDArray[Any]:
    """Pixels of a picture, or levels of a mask as (H, W) uint8."""
    if kind == PICTURE:
        return decode_image(message, limits)
    return np.round(decode_mask(message, limits) * 255).astype(np.uint8)


def serve(connection: socket.socket, limits: ImageLimits, decode: Decode = decode) -> None:
    """Answer requests until the other side closes the connection."""
    while head := receive(connection, REQUEST.size, at_end=b""):
        kind, image_format, length = REQUEST.unpack(head)
        data = bytes(receive(connection, length))
        message = pb.Image(encoded=pb.EncodedImage(format=image_format, data=data))
        for part in _answer(kind, message, limits, decode):
            connection.sendall(part)


def _answer(
    kind: int, message: pb.Image, limits: ImageLimits, decode: Decode
) -> tuple[bytes | memoryview, ...]:
    try:
        pixels = np.ascontiguousarray(decode(kind, message, limits))
    except MemoryError:
        return _failure(
            ImageError(
                "the picture takes more memory to decode than this server gives to one.",
                reason=pb.ERROR_REASON_IMAGE_TOO_LARGE,
            )
        )
    except ImageError as error:
        return _failure(error)
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    return ANSWER.pack(1, height, width, channels, pixels.nbytes), pixels.data.cast("B")


def _failure(error: ImageError) -> tuple[bytes, ...]:
    status: bytes = error.to_status().SerializeToString()
    return ANSWER.pack(0, 0, 0, 0, len(status)), status


class Readable(Protocol):
    """What bytes are read from."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Bytes that were read; 0 at the end."""


def receive(connection: Readable, count: int, at_end: bytes | None = None) -> bytearray | bytes:
    """Exactly `count` bytes.

    Args:
        connection: to read from.
        count: how many.
        at_end: what to answer when the other side closed before the first one.

    Raises:
        ConnectionError: it closed before.
    """
    buffer = bytearray(count)
    view, got = memoryview(buffer), 0
    while got < count:
        now = connection.recv_into(view[got:])
        if now == 0 and got == 0 and at_end is not None:
            return at_end
        if now == 0:
            raise ConnectionError(f"the connection closed after {got} of {count} bytes")
        got += now
    return buffer


def confine(limits: ImageLimits) -> None:
    """Limit what this process may use; it cannot take it back."""
    for what, most in (
        (resource.RLIMIT_AS, memory_limit(limits)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(what, (most, most))


def main(arguments: list[str], decode: Decode = decode) -> None:
    """Serve the socket that is standard input, within the limits given as JSON."""
    limits = ImageLimits(**json.loads(arguments[0]))
    # Now, as the libraries come into memory with their first picture.
    encodings: tuple[Encoding, ...] = ("png", "jpeg", "webp")
    for encoding in encodings:
        decode_image(encode_image(np.zeros((16, 16, 3), np.uint8), encoding))
    confine(limits)
    with socket.socket(fileno=0) as connection:
        connection.sendall(READY)
        serve(connection, limits, decode)


def as_argument(limits: ImageLimits) -> str:
    """The limits as a worker's command line has them."""
    return json.dumps(dataclasses.asdict(limits))


if __name__ == "__main__":
    main(sys.argv[1:])
