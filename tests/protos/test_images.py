"""Pictures on the wire: what is read, how odd files are read, what is refused before a pixel is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError
from editcritic.v1.images import (
    ImageLimits,
    decode_file,
    decode_image,
    decode_mask_file,
    encode_image,
    encode_mask,
    paste_region,
    pixel_count,
    raw_image,
)

RED = (200, 10, 30)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def solid(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (12, 10)) -> Image.Image:
    return Image.new(mode, size, colour)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header promises width x height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_lossless_encodings_return_the_very_pixels(encoding: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(encode_image(pixels, encoding)), pixels)


def test_bare_pixels_return_the_very_pixels() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(raw_image(pixels)), pixels)


def test_bare_grey_becomes_three_equal_channels() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (9, 11), dtype=np.uint8)
    assert np.array_equal(decode_image(raw_image(grey)), np.dstack([grey] * 3))


ODD_FILES = {
    "palette": file_of(solid().convert("P", palette=Image.Palette.ADAPTIVE)),
    "opaque alpha": file_of(solid("RGBA", (*RED, 255))),
    "exif upright": file_of(solid(), exif=Image.Exif()),
}


@pytest.mark.parametrize("data", ODD_FILES.values(), ids=ODD_FILES.keys())
def test_odd_files_of_one_colour_keep_it(data: bytes) -> None:
    assert np.array_equal(decode_file(data), np.full((10, 12, 3), RED, np.uint8))


def test_cmyk_jpeg_is_converted() -> None:
    pixels = decode_file(file_of(solid("CMYK", (0, 255, 255, 0)), "JPEG", quality=100))
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert max(green, blue) < 15


def test_sixteen_bit_grey_is_scaled_to_eight() -> None:
    deep = Image.fromarray(np.full((10, 12), 257 * 100, np.uint16))
    assert np.array_equal(decode_file(file_of(deep)), np.full((10, 12, 3), 100, np.uint8))


def test_see_through_pixels_lie_over_white() -> None:
    assert np.array_equal(decode_file(file_of(solid("RGBA", (0, 0, 0, 0)))), np.full((10, 12, 3), 255))


def test_exif_orientation_is_applied() -> None:
    wide = np.zeros((10, 20, 3), np.uint8)
    wide[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the left half becomes the upper half
    data = file_of(Image.fromarray(wide), exif=exif)
    turned = decode_file(data)
    assert turned.shape == (20, 10, 3)
    assert turned[:10].min() == 255
    assert turned[10:].max() == 0


def test_the_pixel_count_is_read_from_the_header_of_a_file_that_breaks_off() -> None:
    data = file_of(Image.effect_noise((64, 48), 80))[:900]
    assert pixel_count(pb.Image(encoded=pb.EncodedImage(data=data))) == 64 * 48


def test_a_mask_painted_on_a_see_through_layer_is_its_alpha() -> None:
    layer = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    layer.paste((0, 0, 0, 255), (4, 4, 8, 8))
    assert decode_mask_file(file_of(layer)).sum() == 16


def test_a_mask_survives_the_wire_to_half_a_level() -> None:
    soft = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    assert np.abs(decode_mask_file(encode_mask(soft).encoded.data) - soft).max() <= 0.5 / 255 + 1e-6


ANIMATION = file_of(
    solid(), "WEBP", save_all=True, append_images=[solid(colour=(0, 0, 0))], duration=100, lossless=True
)
REFUSED = {
    "empty": (b"", pb.ERROR_REASON_FIELD_MISSING, "missing or empty"),
    "text": (b"this is no picture", pb.ERROR_REASON_IMAGE_UNDECODABLE, "PNG or JPEG or WEBP"),
    "truncated png": (
        file_of(Image.effect_noise((64, 64), 80))[:900],
        pb.ERROR_REASON_IMAGE_UNDECODABLE,
        "damaged",
    ),
    "truncated jpeg": (
        file_of(Image.effect_noise((64, 64), 80), "JPEG")[:900],
        pb.ERROR_REASON_IMAGE_UNDECODABLE,
        "damaged",
    ),
    "gif": (file_of(solid(), "GIF"), pb.ERROR_REASON_IMAGE_UNDECODABLE, "PNG or JPEG or WEBP"),
    "animation": (ANIMATION, pb.ERROR_REASON_IMAGE_UNDECODABLE, "animation"),
    "one pixel": (file_of(solid(size=(1, 1))), pb.ERROR_REASON_IMAGE_TOO_SMALL, "1 x 1"),
    "very wide": (file_of(solid(size=(20_000, 10))), pb.ERROR_REASON_IMAGE_TOO_LARGE, "20000 x 10"),
    "bomb": (bomb(60_000, 60_000), pb.ERROR_REASON_IMAGE_TOO_LARGE, "pixels"),
    "small bomb": (bomb(8000, 8000), pb.ERROR_REASON_IMAGE_TOO_LARGE, "40,000,000"),
}


@pytest.mark.parametrize(("data", "reason", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_files_are_told_what_is_wrong(
    data: bytes, reason: pb.ErrorReason.ValueType, says: str
) -> None:
    with pytest.raises(ImageError, match=says) as refused:
        decode_file(data)
    assert refused.value.reason == reason


def test_a_file_over_the_byte_limit_is_not_looked_at() -> None:
    with pytest.raises(ImageError, match="at most 100") as refused:
        decode_file(bytes(101), ImageLimits(max_bytes=100))
    assert refused.value.reason == pb.ERROR_REASON_IMAGE_TOO_LARGE


def test_a_declared_format_must_be_the_real_one() -> None:
    png = file_of(solid())
    with pytest.raises(ImageError, match="no JPEG picture"):
        decode_image(pb.Image(encoded=pb.EncodedImage(format=pb.IMAGE_FORMAT_JPEG, data=png)))


BAD_RAW = {
    "too few bytes": (pb.PIXEL_FORMAT_RGB8, 10, 10, 299, pb.ERROR_REASON_IMAGE_SIZE),
    "no layout": (pb.PIXEL_FORMAT_UNSPECIFIED, 10, 10, 300, pb.ERROR_REASON_FIELD_INVALID),
    "no columns": (pb.PIXEL_FORMAT_L8, 0, 10, 0, pb.ERROR_REASON_IMAGE_SIZE),
    "negative rows": (pb.PIXEL_FORMAT_L8, 10, -10, 100, pb.ERROR_REASON_IMAGE_SIZE),
    "overflowing": (pb.PIXEL_FORMAT_RGB8, 2**31 - 1, 2**31 - 1, 3, pb.ERROR_REASON_IMAGE_TOO_LARGE),
}


@pytest.mark.parametrize("case", BAD_RAW.values(), ids=BAD_RAW.keys())
def test_bare_pixels_must_fit_their_size(case: tuple[Any, int, int, int, Any]) -> None:
    layout, width, height, count, reason = case
    raw = pb.RawImage(pixel_format=layout, width=width, height=height, data=bytes(count))
    with pytest.raises(ImageError) as refused:
        decode_image(pb.Image(raw=raw))
    assert refused.value.reason == reason


def test_a_crop_is_pasted_at_its_region_and_the_rest_is_the_source() -> None:
    source = np.zeros((40, 60, 3), np.uint8)
    crop = np.full((10, 20, 3), 9, np.uint8)
    whole = paste_region(source, crop, pb.Box(x=30, y=25, width=20, height=10))
    assert whole[25:35, 30:50].min() == 9
    assert whole.sum() == crop.sum()
    assert source.max() == 0


def test_a_smaller_preview_is_resized_to_its_region() -> None:
    source = np.zeros((40, 60, 3), np.uint8)
    whole = paste_region(source, np.full((8, 8, 3), 9, np.uint8), pb.Box(x=4, y=4, width=32, height=32))
    assert whole[4:36, 4:36].min() == 9


@pytest.mark.parametrize(
    ("box", "says"),
    [
        (pb.Box(x=50, y=0, width=20, height=20), "leaves the source"),
        (pb.Box(x=-1, y=0, width=20, height=20), "leaves the source"),
        (pb.Box(x=0, y=0, width=0, height=20), "leaves the source"),
        (pb.Box(x=0, y=0, width=30, height=20), "does not fit"),
    ],
)
def test_a_region_must_lie_in_the_source_and_fit_the_crop(box: pb.Box, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        paste_region(np.zeros((40, 60, 3), np.uint8), np.zeros((20, 20, 3), np.uint8), box)
