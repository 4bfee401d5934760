"""What the fuzzer begins with, and how it changes it."""

from __future__ import annotations

import random as randomness
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from editcritic.server.http_face import wire
from editcritic.v1 import critic_pb2 as pb

__all__ = ["SEEDS", "mutated"]


def mutated(random: randomness.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    """`data` with one to four changes, some of them from `pool`; a PNG mostly gets its check sums right again."""
    for _ in range(random.randint(1, 4)):
        change = random.choice((_flip, _set, _cut, _double, _number, None))
        data = (change(random, data) if change else _splice(random, data, random.choice(pool))) or b"\0"
    return _with_check_sums(data) if random.random() < 0.7 else data


def _splice(random: randomness.Random, data: bytes, other: bytes) -> bytes:
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _flip(random: randomness.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _set(random: randomness.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return (
        data[:at]
        + bytes([random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, random.randrange(256)))])
        + data[at + 1 :]
    )


def _cut(random: randomness.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at + random.randint(1, 40) :]


def _double(random: randomness.Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + data[at : at + random.randint(1, 60)] * random.randint(2, 4) + data[at:]


def _number(random: randomness.Random, data: bytes) -> bytes:
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
        # More than the decoder itself would unpack.
        with_chunks(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1_100_000)))),
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
