"""Every limit on pictures is told by ListCritics, and what is told is where the server stops."""

from __future__ import annotations

import asyncio
import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import ImageLimits, encode_mask
from tests.protos.hostile import chunk, file_of, noise, png, with_chunks
from tests.protos.test_images import BAD_RAW, bomb
from tests.server.speaking import refusal

TOLD = {
    "max_bytes": "max_image_byte_count",
    "max_pixels": "max_pixel_count",
    "max_side": "max_side_px",
    "min_side": "min_side_px",
    "max_profile_bytes": "max_profile_byte_count",
    "max_exif_bytes": "max_exif_byte_count",
    "max_metadata_bytes": "max_metadata_byte_count",
    "max_scans": "max_scan_count",
}


def test_every_limit_on_pictures_is_told_under_its_name() -> None:
    assert set(TOLD) == {field.name for field in dataclasses.fields(ImageLimits)}
    own = ImageLimits(*range(101, 109))
    told = ServerSettings(images=own).limits()
    assert {name: getattr(told, TOLD[name]) for name in TOLD} == dataclasses.asdict(own)
    assert told.max_frame_count == 1


def packed(name: bytes, count: int) -> bytes:
    return chunk(name, b"a\0\0" + zlib.compress(bytes(count)))


def with_exif(count: int) -> bytes:
    empty = b"MM\0*\0\0\0\x08\0\0\0\0\0\0"
    return with_chunks(chunk(b"eXIf", empty.ljust(count, b"\0")))


def frames(count: int) -> bytes:
    pictures = [Image.fromarray(np.asarray(noise(16, 12)) // (number + 1)) for number in range(count)]
    return file_of(pictures[0], "PNG", save_all=True, append_images=pictures[1:])


LIMITS = ImageLimits(
    max_bytes=60_000,
    max_pixels=4000,
    max_side=200,
    min_side=8,
    max_profile_bytes=2000,
    max_exif_bytes=1000,
    max_metadata_bytes=2000,
)
# By the name of the limit: a file that is as large as the limit allows in that respect, or one more.
AT: dict[str, Callable[[int], bytes]] = {
    "max_pixel_count": lambda count: file_of(noise(100, -(-count // 100)), "PNG"),
    "max_side_px": lambda count: file_of(noise(count, 8), "PNG"),
    "min_side_px": lambda count: file_of(noise(16, count), "PNG"),
    "max_profile_byte_count": lambda count: with_chunks(packed(b"iCCP", count)),
    "max_exif_byte_count": with_exif,
    "max_metadata_byte_count": lambda count: with_chunks(packed(b"zTXt", count)),
    "max_frame_count": frames,
    "max_image_byte_count": lambda count: png() + bytes(count - len(png())),
}


def request_with(data: bytes) -> pb.CritiqueRequest:
    source = pb.Image(encoded=pb.EncodedImage(data=data))
    with_mask = encode_mask(np.ones((8, 8), np.float32))
    return pb.CritiqueRequest(edit=pb.Edit(source=source, denoise_mask=with_mask), candidate=pb.Candidate())


@pytest.mark.parametrize("name", AT)
async def test_a_picture_at_its_limit_is_read_and_one_beyond_it_is_refused(serving: Any, name: str) -> None:
    async with serving(images=LIMITS) as (_, stub):
        limits = (await stub.ListCritics(pb.ListCriticsRequest())).limits
        limit = getattr(limits, name)
        step = -1 if name.startswith("min") else 1
        beyond = await refusal(stub.Critique(request_with(AT[name](limit + step))))
        assert beyond.code == 3
        assert beyond.field == "edit.source"
        at = await refusal(stub.Critique(request_with(AT[name](limit))))
        assert at.field != "edit.source", "it went on to what else is wrong with the request"


@pytest.mark.parametrize("name", ["max_profile_byte_count", "max_metadata_byte_count"])
async def test_what_travels_along_is_read_up_to_the_limits_that_are_the_default(
    serving: Any, name: str
) -> None:
    async with serving() as (_, stub):
        limits = (await stub.ListCritics(pb.ListCriticsRequest())).limits
        at = await refusal(stub.Critique(request_with(AT[name](getattr(limits, name)))))
        assert at.field != "edit.source", "the decoder's own limit is lower"


async def test_a_verdict_is_taken_up_to_the_limits_that_are_told(serving: Any, tmp_path: Path) -> None:
    async with serving(verdicts_path=tmp_path / "verdicts.sqlite3") as (_, stub):
        limits = (await stub.ListCritics(pb.ListCriticsRequest())).limits

        def verdict(beyond: int, field: str) -> pb.RecordVerdictRequest:
            more = {
                name: beyond if name == field else 0
                for name in ("comment", "other_candidate_ids", "critique")
            }
            critique = pb.Critique(explanation="x" * (limits.max_verdict_critique_byte_count - 5))
            critique.explanation += "x" * more["critique"]
            return pb.RecordVerdictRequest(
                verdict_id=f"v{field}"[:9],
                edit_id="e",
                candidate_id="c",
                kind=pb.VERDICT_KIND_ACCEPTED,
                comment="x" * (limits.max_comment_char_count + more["comment"]),
                other_candidate_ids=["o"] * (limits.max_other_candidate_count + more["other_candidate_ids"]),
                critique=critique,
            )

        for field in ("comment", "other_candidate_ids", "critique"):
            refused = await refusal(stub.RecordVerdict(verdict(1, field)))
            assert (refused.code, refused.field) == (3, field)
        await stub.RecordVerdict(verdict(0, ""))


def test_a_time_limit_on_decoding_is_told_where_there_is_one() -> None:
    assert ServerSettings(decoder_workers=2).limits().decoding_timeout_ms == 30_000
    assert ServerSettings(decoder_workers=0).limits().decoding_timeout_ms == 0


@pytest.mark.parametrize("isolated", [0, 1], ids=["in process", "isolated"])
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {})])
async def test_how_far_the_pixels_are_packed_is_no_limit(
    serving: Any, kind: str, options: dict[str, Any], isolated: int
) -> None:
    """A picture of one colour is as good as any: the limits are on its pixels, and the contract says so."""
    data = file_of(Image.new("RGB", (1500, 1500), (9, 90, 9)), kind, **options)
    assert 100 * len(data) < 1500 * 1500 * 3
    async with serving(decoder_workers=isolated) as (_, stub):
        read = await refusal(stub.Critique(request_with(data)))
        assert read.field != "edit.source", "it went on to what else is wrong with the request"


@pytest.mark.parametrize("case", BAD_RAW.values(), ids=BAD_RAW.keys())
async def test_bare_pixels_that_do_not_fit_their_size_are_refused_over_the_wire(
    stub: Any, case: tuple[Any, int, int, int, Any]
) -> None:
    pixel_format, width, height, count, reason = case
    if min(width, height) < ImageLimits().min_side:
        reason = pb.ERROR_REASON_IMAGE_TOO_SMALL
    raw = pb.RawImage(pixel_format=pixel_format, width=width, height=height, data=bytes(count))
    request = request_with(png())
    request.edit.source.CopyFrom(pb.Image(raw=raw))
    error = await refusal(stub.Critique(request))
    assert (error.code, error.reason, error.field) == (3, reason, "edit.source")


async def test_bombs_by_the_hundred_take_no_memory(stub: Any) -> None:
    request = request_with(bomb(8000, 8000))
    await refusal(stub.Critique(request))
    before = psutil.Process().memory_info().rss
    for _ in range(10):
        errors = await asyncio.gather(*(refusal(stub.Critique(request)) for _ in range(10)))
        assert {each.reason for each in errors} == {pb.ERROR_REASON_IMAGE_TOO_LARGE}
    # One of them has 192 MB.
    assert psutil.Process().memory_info().rss - before < 50_000_000
