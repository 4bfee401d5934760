"""Hostile picture files: refused from their headers, by format and by limit, before any decoder sees them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.containers import ContainerError, read_header
from editcritic.v1.errors import ImageError
from editcritic.v1.images import ImageLimits, decode_file, decode_mask_file, pixel_count
from tests.protos.hostile import (
    app_segment,
    chunk,
    file_of,
    jpeg,
    noise,
    png,
    riff,
    webp,
    with_chunks,
    with_segments,
)

MEGABYTE = 2**20
TOO_LARGE, UNDECODABLE = pb.ERROR_REASON_IMAGE_TOO_LARGE, pb.ERROR_REASON_IMAGE_UNDECODABLE
PACKED_ZEROS = zlib.compress(bytes(200 * MEGABYTE), 9)  # 200 MB in 200 KB


def vp8x(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    )


def two_sizes() -> bytes:
    """A JPEG with a second frame header of another size."""
    whole = jpeg()
    start = whole.index(b"\xff\xc0")
    frame = bytearray(whole[start : start + 2 + struct.unpack(">H", whole[start + 2 : start + 4])[0]])
    frame[5:9] = struct.pack(">HH", 4000, 4000)
    return whole[:start] + whole[start : start + len(frame)] + bytes(frame) + whole[start + len(frame) :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def frames(kind: str, **options: Any) -> bytes:
    others = [noise(16, 12).rotate(90 * number) for number in range(1, 60)]
    return file_of(noise(16, 12), kind, save_all=True, append_images=others, **options)


HOSTILE = {
    "png text of 200 MB": (
        lambda: with_chunks(chunk(b"zTXt", b"a\0\0" + PACKED_ZEROS)),
        TOO_LARGE,
        "metadata",
    ),
    "png international text": (
        lambda: with_chunks(chunk(b"iTXt", b"a\0\1\0en\0tr\0" + PACKED_ZEROS)),
        TOO_LARGE,
        "metadata",
    ),
    "png profile of 200 MB": (
        lambda: with_chunks(chunk(b"iCCP", b"a\0\0" + PACKED_ZEROS)),
        TOO_LARGE,
        "colour profile",
    ),
    "png of many small texts": (
        lambda: with_chunks(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(MEGABYTE), 9))] * 400),
        TOO_LARGE,
        "metadata",
    ),
    "png text behind the pixels": (
        lambda: png()[:-12] + chunk(b"zTXt", b"a\0\0" + PACKED_ZEROS) + png()[-12:],
        TOO_LARGE,
        "metadata",
    ),
    "png exif of 1 MB": (lambda: with_chunks(chunk(b"eXIf", bytes(MEGABYTE))), TOO_LARGE, "EXIF"),
    "png of 100,000 chunks": (lambda: with_chunks(chunk(b"spAM", b"") * 100_000), UNDECODABLE, "chunks"),
    "apng of 60 frames": (lambda: frames("PNG"), UNDECODABLE, "animation"),
    "apng that hides its frames": (
        lambda: png()[:-12] + chunk(b"fdAT", bytes(100)) + png()[-12:],
        UNDECODABLE,
        "animation",
    ),
    "webp of 60 frames": (lambda: frames("WEBP", duration=10), UNDECODABLE, "animation"),
    "webp canvas of 16384 a side": (lambda: riff(vp8x(16384, 16384)), TOO_LARGE, "16384 x 16384"),
    "webp canvas of 2^24 a side": (lambda: riff(vp8x(2**24, 2**24)), TOO_LARGE, "pixels"),
    "webp animation flag alone": (lambda: riff(vp8x(64, 64, flags=2)), UNDECODABLE, "animation"),
    "webp profile of 5 MB": (
        lambda: riff(vp8x(64, 64), (b"ICCP", bytes(5 * MEGABYTE))),
        TOO_LARGE,
        "colour profile",
    ),
    "webp exif of 1 MB": (lambda: riff(vp8x(64, 64), (b"EXIF", bytes(MEGABYTE))), TOO_LARGE, "EXIF"),
    "webp of many chunks": (lambda: riff(vp8x(64, 64), *[(b"junk", b"")] * 30_000), UNDECODABLE, "chunks"),
    "jpeg profile of 100 x 64 KB": (
        lambda: with_segments(
            *[app_segment(2, b"ICC_PROFILE\0" + bytes([n, 100]) + bytes(65_000)) for n in range(1, 101)]
        ),
        TOO_LARGE,
        "colour profile",
    ),
    "jpeg exif of 10 x 64 KB": (
        lambda: with_segments(*[app_segment(1, b"Exif\0\0" + bytes(65_000))] * 10),
        TOO_LARGE,
        "EXIF",
    ),
    "jpeg comments of 10 MB": (
        lambda: with_segments(*[b"\xff\xfe" + struct.pack(">H", 65_002) + bytes(65_000)] * 160),
        TOO_LARGE,
        "metadata",
    ),
    "jpeg of 100,000 segments": (lambda: with_segments(b"\xff\xfe\0\2" * 100_000), UNDECODABLE, "segments"),
    "jpeg of 1000 scans": (lambda: many_scans(1000), TOO_LARGE, "scans"),
    "jpeg of two sizes": (two_sizes, UNDECODABLE, "two different sizes|damaged|no whole"),
    "jpeg without rows": (
        lambda: jpeg().replace(struct.pack(">HH", 12, 16), struct.pack(">HH", 0, 16), 1),
        UNDECODABLE,
        "size",
    ),
    "1 x 100000": (lambda: ihdr(1, 100_000), TOO_LARGE, "1 x 100000"),
    "100000 x 1": (lambda: ihdr(100_000, 1), TOO_LARGE, "100000 x 1"),
    "png of no size": (lambda: ihdr(0, 0), UNDECODABLE, "size"),
    "png of a negative size": (lambda: ihdr(2**32 - 1, 2**32 - 1), TOO_LARGE, "pixels"),
    "png header alone": (lambda: ihdr(64, 64), UNDECODABLE, "damaged|no whole"),
    "gif": (lambda: file_of(noise(16, 12), "GIF"), UNDECODABLE, "no PNG or JPEG or WEBP"),
    "tiff": (lambda: file_of(noise(16, 12), "TIFF"), UNDECODABLE, "no PNG or JPEG or WEBP"),
    "bmp": (lambda: file_of(noise(16, 12), "BMP"), UNDECODABLE, "no PNG or JPEG or WEBP"),
    "psd": (lambda: b"8BPS\0\1" + bytes(6) + bytes(2000), UNDECODABLE, "no PNG or JPEG or WEBP"),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", UNDECODABLE, "no PNG"),
    "avif": (lambda: b"\0\0\0\x1cftypavif" + bytes(200), UNDECODABLE, "no PNG"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_with_what_is_wrong(case: str) -> None:
    build, reason, says = HOSTILE[case]
    for decode in (decode_file, decode_mask_file):
        with pytest.raises(ImageError, match=says) as refused:
            decode(build())
        assert refused.value.reason == reason


BY_DECODERS = ("jpeg of two sizes", "png header alone")


@pytest.mark.parametrize("case", [case for case in HOSTILE if case not in BY_DECODERS])
def test_it_is_refused_before_any_decoder_sees_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", lambda *_args, **_options: pytest.fail("a decoder was asked"))
    with pytest.raises(ImageError):
        decode_file(HOSTILE[case][0]())


@pytest.mark.parametrize("build", [png, jpeg, webp], ids=["png", "jpeg", "webp"])
def test_a_file_cut_anywhere_is_decoded_whole_or_refused(build: Any) -> None:
    whole = build()
    for end in range(len(whole)):
        try:
            pixels = decode_file(whole[:end])
        except ImageError as error:
            assert error.reason in (UNDECODABLE, pb.ERROR_REASON_FIELD_MISSING), end
        else:
            # Some bytes at the end of a file carry nothing.
            assert np.array_equal(pixels, decode_file(whole)), end


def test_no_switch_of_the_library_lets_broken_files_through() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "data",
    [
        png(37, 21),
        jpeg(37, 21),
        jpeg(37, 21, progressive=True),
        file_of(noise(37, 21).convert("CMYK"), "JPEG"),
        file_of(noise(37, 21).convert("P"), "PNG"),
        file_of(Image.fromarray(np.zeros((21, 37), np.uint16)), "PNG"),
        webp(37, 21),
        webp(37, 21, lossless=True),
        file_of(noise(37, 21).convert("RGBA"), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
        file_of(noise(37, 21), "JPEG", icc_profile=bytes(200_000), comment=b"by hand"),
    ],
    ids=[
        "png",
        "jpeg",
        "progressive",
        "cmyk",
        "palette",
        "16 bit",
        "webp",
        "lossless",
        "webp+exif",
        "jpeg+icc",
    ],
)
def test_the_header_says_what_the_decoder_finds(data: bytes) -> None:
    header, opened = read_header(data), Image.open(io.BytesIO(data))
    assert (header.format, header.width, header.height) == (opened.format, *opened.size)
    assert pixel_count(pb.Image(encoded=pb.EncodedImage(data=data))) == 37 * 21
    assert decode_file(data).shape == (21, 37, 3)


def test_a_photographs_extras_are_counted_apart() -> None:
    photo = file_of(
        noise(16, 12), "JPEG", icc_profile=bytes(100_000), exif=b"Exif\0\0" + bytes(3000), comment=b"c" * 500
    )
    header = read_header(photo)
    assert 100_000 <= header.profile_bytes < 101_000
    assert 3000 <= header.exif_bytes < 3100
    assert 500 <= header.metadata_bytes < 600
    assert header.scans == 1


def test_limits_are_the_callers_own() -> None:
    with pytest.raises(ImageError, match="over 2 scans"):
        decode_file(jpeg(progressive=True), ImageLimits(max_scans=2))
    assert decode_file(many_scans(3)).shape == (12, 16, 3)


def orientation(value: int, count: int = 1) -> bytes:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, value, 0)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", count) + entry * count + b"\0\0\0\0"


@pytest.mark.parametrize(
    "exif", [orientation(6), orientation(6, 1000), orientation(99), b"Exif\0\0MM\0*\xff\xff\xff\xff"]
)
def test_a_hostile_rotation_turns_the_picture_once_or_not_at_all(exif: bytes) -> None:
    data = with_segments(app_segment(1, exif))
    assert decode_file(data).shape in ((12, 16, 3), (16, 12, 3))


def test_a_rotation_does_not_carry_a_picture_over_the_limits() -> None:
    tall = with_segments(app_segment(1, orientation(8)))
    assert decode_file(tall, ImageLimits(max_side=16)).shape == (16, 12, 3)
    with pytest.raises(ImageError, match="16 x 12"):
        decode_file(tall, ImageLimits(max_side=15))


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", bytes(64)]
)
def test_bytes_without_a_size_are_no_picture(data: bytes) -> None:
    with pytest.raises(ContainerError):
        read_header(data)
