"""What the server and a critic's own process say to each other: a head in JSON, then bytes as they are.

Nothing is pickled, and neither side needs the other's version of any library: arrays are raw, messages are protobuf's.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "array_of", "bytes_of", "receive", "send", "shape_of"]

Part: TypeAlias = "bytes | memoryview"

_HEAD = struct.Struct("<4sIQ")
_MAGIC = b"ecw1"
_MAX_HEAD_BYTES = 2**24
_DTYPES = ("uint8", "float32")


@dataclass(frozen=True, eq=False)
class Frame:
    """One message.

    Attributes:
        kind: what it is.
        number: of the request that it asks or answers.
        told: small things, as JSON has them.
        parts: pixels and messages as bytes.
    """

    kind: str
    number: int = 0
    told: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[Part] = ()


def bytes_of(array: NDArray[Any]) -> memoryview:
    """An array's bytes, row by row; without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def shape_of(array: NDArray[Any]) -> dict[str, Any]:
    """What `array_of` has to know."""
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def array_of(part: Part, told: Mapping[str, Any]) -> NDArray[Any]:
    """The array that `bytes_of` and `shape_of` were made of; it shares the part's memory.

    Raises:
        ValueError: bytes and shape do not fit.
    """
    if told["dtype"] not in _DTYPES:
        raise ValueError(f"arrays are {' or '.join(_DTYPES)}, not {told['dtype']!r}")
    return np.frombuffer(part, told["dtype"]).reshape(told["shape"])


async def send(connection: socket.socket, frame: Frame) -> None:
    """Write a frame. Cancelling it midway leaves the connection useless.

    Args:
        connection: non-blocking.
        frame: what to say.

    Raises:
        OSError: the other side closed.
    """
    loop = asyncio.get_running_loop()
    lengths = [len(part) for part in frame.parts]
    told = {"kind": frame.kind, "number": frame.number, "told": frame.told, "lengths": lengths}
    head = json.dumps(told).encode()
    await loop.sock_sendall(connection, _HEAD.pack(_MAGIC, len(head), sum(lengths)) + head)
    for part in frame.parts:
        await loop.sock_sendall(connection, part)


async def receive(connection: socket.socket, max_bytes: int) -> Frame:
    """Read a frame.

    Args:
        connection: non-blocking.
        max_bytes: of its parts.

    Raises:
        OSError: the other side closed. ValueError: what came is no frame, or too large.
    """
    magic, head_length, body_length = _HEAD.unpack(await _read(connection, _HEAD.size))
    if magic != _MAGIC or head_length > _MAX_HEAD_BYTES or body_length > max_bytes:
        raise ValueError("what came is no frame, or one that is too large")
    told = json.loads(bytes(await _read(connection, head_length)))
    body = await _read(connection, body_length)
    parts, begin = [], 0
    for length in told["lengths"]:
        parts.append(body[begin : begin + length])
        begin += length
    if begin != body_length or any(length < 0 for length in told["lengths"]):
        raise ValueError("the parts of a frame do not add up")
    return Frame(told["kind"], told["number"], told["told"], parts)


async def _read(connection: socket.socket, count: int) -> memoryview:
    loop = asyncio.get_running_loop()
    view, got = memoryview(bytearray(count)), 0
    while got < count:
        now = await loop.sock_recv_into(connection, view[got:])
        if now == 0:
            raise ConnectionError(f"the connection closed after {got} of {count} bytes")
        got += now
    return view
