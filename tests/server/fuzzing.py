"""A small coverage-guided fuzzer for what strangers send: pictures, masks, requests and streams.

``make fuzz COUNT=100000`` runs it. Inputs that reach new lines of the code that reads them are mutated further, and the
small ones are kept in ``corpus``. What counts as a crash is any exception but the errors of the tree, and any pixels of
another shape than promised. The image library's own C code is not instrumented.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

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

__all__ = ["CORPUS", "SEEDS", "SETTINGS", "TARGETS", "Fuzzer", "InstantEdit"]

CORPUS = Path(__file__).with_name("corpus")
LIMITS = ImageLimits(max_bytes=1 << 17, max_pixels=1 << 16, max_side=1024)
SETTINGS = ServerSettings(critics=("dummy",), images=LIMITS, idle_timeout_s=0.05, max_pending=4)
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
_KEPT_BYTES = 2048
_KEPT_FILES = 120


def picture(data: bytes) -> None:
    """Any bytes are a picture or an error with a reason."""
    try:
        pixels = decode_file(data, LIMITS)
    except ImageError as error:
        assert error.reason != pb.ERROR_REASON_UNSPECIFIED
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels


def mask(data: bytes) -> None:
    """Any bytes are a mask in [0, 1] or an error with a reason."""
    try:
        levels = decode_mask_file(data, LIMITS)
    except ImageError as error:
        assert error.reason != pb.ERROR_REASON_UNSPECIFIED
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
        assert error.reason != pb.ERROR_REASON_UNSPECIFIED
        assert len(error.to_status().SerializeToString()) < 4096


def json(data: bytes) -> None:
    """Any bytes are refused by name, or a request that comes back as it was."""
    try:
        message = wire.read_message(data, pb.CritiqueRequest.DESCRIPTOR)
    except EditCriticError as error:
        assert error.reason == pb.ERROR_REASON_MESSAGE_UNDECODABLE
        assert len(error.to_status().SerializeToString()) < 4096
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
    asyncio.run(_converse(list(_messages(data))))


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
        assert error.reason != pb.ERROR_REASON_UNSPECIFIED


TARGETS: dict[str, Callable[[bytes], None]] = {
    "picture": picture,
    "mask": mask,
    "request": request,
    "stream": stream,
    "json": json,
}


def _seeds() -> dict[str, list[bytes]]:
    from PIL import Image

    from tests.protos.hostile import (
        app_segment,
        chunk,
        file_of,
        jpeg,
        noise,
        png,
        webp,
        with_chunks,
        with_segments,
    )

    pictures = [
        *(build() for build in (png, jpeg, webp)),
        jpeg(progressive=True),
        webp(lossless=True),
        file_of(noise(16, 12).convert("RGBA"), "PNG"),
        file_of(noise(16, 12).convert("P"), "PNG"),
        file_of(noise(16, 12).convert("CMYK"), "JPEG"),
        file_of(Image.fromarray(np.zeros((12, 16), np.uint16)), "PNG"),
        with_chunks(
            chunk(b"zTXt", b"a\0\0" + zlib.compress(b"text")), chunk(b"iCCP", b"a\0\0" + zlib.compress(b"p"))
        ),
        with_segments(app_segment(1, b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")),
    ]
    small = pb.Image(encoded=pb.EncodedImage(data=png()))
    raw = pb.Image(
        raw=pb.RawImage(pixel_format=pb.PIXEL_FORMAT_L8, width=8, height=8, data=bytes([255]) * 64)
    )
    whole = pb.Edit(
        source=small,
        denoise_mask=pb.Image(encoded=pb.EncodedImage(data=file_of(Image.new("L", (16, 12), 255), "PNG"))),
    )
    bare = pb.Edit(source=raw, denoise_mask=raw, blend_mask=raw, prompt="a")
    crop = pb.Candidate(candidate_id="c", image=raw, region=pb.Box(x=2, y=2, width=8, height=8))
    requests = [
        pb.CritiqueRequest(edit=whole, candidate=crop, progress=pb.DenoisingProgress(fraction=0.5)),
        pb.CritiqueRequest(
            edit=bare, candidate=pb.Candidate(image=raw), options=pb.CritiqueOptions(budget_ms=5)
        ),
    ]
    one = pb.Candidate(candidate_id="c", image=raw)
    talk = [
        pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=bare)),
        pb.CritiqueStreamRequest(
            preview=pb.Preview(candidate=one, progress=pb.DenoisingProgress(fraction=0.5))
        ),
        pb.CritiqueStreamRequest(candidate=one),
        pb.CritiqueStreamRequest(cancel_candidate=pb.CancelCandidate(candidate_id="c")),
        pb.CritiqueStreamRequest(finish=pb.FinishEdit()),
    ]
    framed = b"".join(
        struct.pack(">H", len(part)) + part for part in (each.SerializeToString() for each in talk)
    )
    return {
        "picture": pictures,
        "mask": pictures,
        "request": [each.SerializeToString() for each in requests],
        "stream": [framed, framed * 2],
        "json": [wire.write_json(wire.write_message(each)) for each in requests],
    }


SEEDS = _seeds()


class Fuzzer:
    """Mutates inputs of one target, and keeps those that reach something new.

    Args:
        name: of the target. seed: of the random numbers.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.run = name, TARGETS[name]
        self.random = random.Random(f"{name}{seed}")
        self.reached: set[tuple[str, int, int]] = set()
        self.found: list[bytes] = []
        self.pool = [*SEEDS[name], *(file.read_bytes() for file in sorted(CORPUS.glob(f"{name}-*")))]
        for data in self.pool:
            self._try(data)

    def step(self) -> None:
        """One input. Raises: what the target raises, with the input in a note."""
        data = self.mutated(self.random.choice(self.pool))
        if self._try(data):
            self.pool.append(data)
            self.found.append(data)

    def mutated(self, data: bytes) -> bytes:
        """`data` with one to four changes; a PNG mostly gets its check sums right again."""
        for _ in range(self.random.randint(1, 4)):
            data = (
                self.random.choice((_flip, _set, _cut, _double, _number, self._splice))(self.random, data)
                or b"\0"
            )
        return _with_check_sums(data) if self.random.random() < 0.7 else data

    def _splice(self, random: random.Random, data: bytes) -> bytes:
        other = random.choice(self.pool)
        return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]

    def _try(self, data: bytes) -> bool:
        before, last = len(self.reached), 0

        def line(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            self.reached.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        sys.settrace(lambda frame, _event, _argument: line if frame.f_code.co_filename in WATCHED else None)
        try:
            self.run(data)
        except Exception as error:
            # Notes came with Python 3.11.
            raise AssertionError(f"{self.name} broke on {data.hex()}") from error
        finally:
            sys.settrace(None)
        return len(self.reached) > before


def _flip(random: random.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _set(random: random.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return (
        data[:at]
        + bytes([random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, random.randrange(256)))])
        + data[at + 1 :]
    )


def _cut(random: random.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at + random.randint(1, 40) :]


def _double(random: random.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at : at + random.randint(1, 60)] * random.randint(2, 4) + data[at:]


def _number(random: random.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    layout = random.choice((">I", "<I", ">H", "<H"))
    value = random.choice((0, 1, 0xFF, 0x7FFF, 0xFFFF, 1024, 8, 2**31 - 1, 2**31, 2**32 - 1))
    packed = struct.pack(layout, value & (0xFFFFFFFF if layout[1] == "I" else 0xFFFF))
    return data[:at] + packed + data[at + len(packed) :]


def _with_check_sums(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    out, position = bytearray(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", out, end, zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(out)


def _keep(fuzzer: Fuzzer) -> int:
    kept = len(list(CORPUS.glob(f"{fuzzer.name}-*")))
    small = sorted((data for data in fuzzer.found if len(data) <= _KEPT_BYTES), key=len)[
        : _KEPT_FILES // 4 - kept
    ]
    for data in small:
        (CORPUS / f"{fuzzer.name}-{zlib.crc32(data):08x}").write_bytes(data)
    return len(small)


def main() -> None:
    """Run the number of inputs, shared among the targets, or until the seconds are over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    CORPUS.mkdir(exist_ok=True)
    fuzzers, began, ran = [Fuzzer(name, arguments.seed) for name in TARGETS], time.monotonic(), 0
    while ran < arguments.count and time.monotonic() - began < arguments.seconds:
        fuzzers[ran % len(fuzzers)].step()
        ran += 1
    for fuzzer in fuzzers:
        print(f"{fuzzer.name}: {len(fuzzer.reached)} steps of code reached, {_keep(fuzzer)} inputs kept")
    print(f"{ran} inputs in {time.monotonic() - began:.0f} s, no crash")


if __name__ == "__main__":
    main()
