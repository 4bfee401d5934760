"""What the fuzzer feeds: the code that reads pictures, masks, requests and streams of strangers.

Any exception of a target but the errors of the tree is a crash, and so are pixels of another shape than promised, an
error that does not blame its sender, and a task that goes on after its conversation.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import struct
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

import editcritic.server.decoding
import editcritic.server.session
import editcritic.v1.containers
import editcritic.v1.images
from editcritic.server.decoding import check_options, decode_candidate, decode_edit
from editcritic.server.http_face import wire
from editcritic.server.session import CritiqueSession
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, ImageError
from editcritic.v1.images import ImageLimits, decode_file, decode_mask_file

__all__ = ["LIMITS", "SETTINGS", "TARGETS", "WATCHED", "InstantEdit"]

LIMITS = ImageLimits(max_bytes=1 << 17, max_pixels=1 << 16, max_side=1024)
SETTINGS = ServerSettings(critics=("dummy",), images=LIMITS, idle_timeout_s=0.05, max_pending=4)
_CALLERS_FAULTS = {
    code.value[0]
    for code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
}
WATCHED = {
    module.__file__
    for module in (
        editcritic.v1.containers,
        editcritic.v1.images,
        editcritic.server.decoding,
        editcritic.server.session,
        wire,
    )
}


def _check_refusal(error: EditCriticError) -> None:
    """What refuses an input says why, blames its sender, and fits into the trailers of common peers."""
    assert error.reason != pb.ERROR_REASON_UNSPECIFIED, error
    assert error.code in _CALLERS_FAULTS, error
    assert len(error.to_status().SerializeToString()) < 4096, error


def picture(data: bytes) -> None:
    """Any bytes are a picture or an error with a reason."""
    try:
        pixels = decode_file(data, LIMITS)
    except ImageError as error:
        _check_refusal(error)
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels


def mask(data: bytes) -> None:
    """Any bytes are a mask in [0, 1] or an error with a reason."""
    try:
        levels = decode_mask_file(data, LIMITS)
    except ImageError as error:
        _check_refusal(error)
    else:
        assert 0.0 <= levels.min() <= levels.max() <= 1.0


def request(data: bytes) -> None:
    """Any bytes are no message, or a request that is decoded, or refused by name."""
    try:
        message = pb.CritiqueRequest.FromString(data)
    except DecodeError:
        return
    try:
        check_options(message.options)
        edit = decode_edit(message.edit, SETTINGS)
        progress = message.progress if message.HasField("progress") else None
        candidate = decode_candidate(message.candidate, progress, edit.source, SETTINGS)
        assert candidate.image.shape == edit.source.shape
    except EditCriticError as error:
        _check_refusal(error)


def json(data: bytes) -> None:
    """Any bytes are refused by name, or a request that comes back as it was."""
    try:
        message = wire.read_message(data, pb.CritiqueRequest.DESCRIPTOR)
    except EditCriticError as error:
        _check_refusal(error)
        assert error.reason == pb.ERROR_REASON_MESSAGE_UNDECODABLE
    else:
        told = wire.write_json(wire.write_message(message))
        assert wire.read_message(told, message.DESCRIPTOR) == message


class InstantEdit:
    """An opened edit that judges at once, or refuses what is wrong with the candidate's picture."""

    def __init__(self, edit: pb.Edit) -> None:
        self.edit = edit
        self.host = SimpleNamespace(info=pb.CriticInfo())
        self.sha256 = b""

    async def critique(self, candidate: pb.Candidate, *_args: Any, **_options: Any) -> pb.Critique:
        await asyncio.sleep(0)
        if not candidate.HasField("image"):
            raise ImageError("none", reason=pb.ERROR_REASON_FIELD_MISSING)
        return pb.Critique(candidate_id=candidate.candidate_id)

    def close(self) -> None:
        """Nothing is held."""


def stream(data: bytes) -> None:
    """Any messages in any order end with `closed`, or with an error of the tree; every candidate gets one answer."""
    _loop().run_until_complete(_converse(list(_messages(data))))


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    # One for all: making a loop takes as long as a conversation.
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def _messages(data: bytes) -> Any:
    while len(data) >= 2:
        (length,) = struct.unpack_from(">H", data)
        try:
            yield pb.CritiqueStreamRequest.FromString(data[2 : 2 + length])
        except DecodeError:
            return
        data = data[2 + length :]


async def _converse(messages: list[pb.CritiqueStreamRequest]) -> None:
    async def requests() -> AsyncIterator[pb.CritiqueStreamRequest]:
        for message in messages:
            await asyncio.sleep(0)
            yield message

    async def open_edit(opening: pb.OpenEdit) -> Any:
        return InstantEdit(opening.edit)

    session = CritiqueSession(requests(), open_edit, SETTINGS)
    answered = 0
    try:
        async for event in session.events():
            kind = event.WhichOneof("event")
            answered += kind in ("critique", "candidate_error", "dropped")
            if kind == "closed":
                totals = event.closed
                assert totals.critique_count + totals.error_count + totals.dropped_count == answered
    except EditCriticError as error:
        _check_refusal(error)
    await _check_nothing_runs()


async def _check_nothing_runs() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


TARGETS: dict[str, Callable[[bytes], None]] = {
    "picture": picture,
    "mask": mask,
    "request": request,
    "stream": stream,
    "json": json,
}
