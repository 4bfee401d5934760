"""Pictures on the wire: Pillow and NumPy to `Image` messages and back, and every limit on what is decoded.

Nothing is decoded before its header was read (`containers`): format, size, frames and what travels along decide
first. One policy for all
odd files, because an edit is only comparable when source, mask and candidate were read in the same way:

=====================  ==================================================================
EXIF orientation       applied
CMYK, YCbCr, palette   converted to RGB
16-bit grey            scaled to 8 bits
alpha                  pictures are laid over white; in a mask with see-through pixels the alpha is the mask
animation              refused
other formats          refused (PNG, JPEG and WebP are read)
=====================  ==================================================================
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.containers import ContainerError, Header, read_header, without_extras
from editcritic.v1.errors import ImageError

__all__ = [
    "DEFAULT_IMAGE_LIMITS",
    "Encoding",
    "ImageLimits",
    "decode_file",
    "decode_image",
    "decode_mask",
    "decode_mask_at",
    "decode_mask_file",
    "encode_image",
    "encode_mask",
    "fit_mask",
    "paste_region",
    "pixel_count",
    "raw_image",
    "resize_to",
]

Encoding = Literal["png", "jpeg", "webp"]
"""How pixels are turned into a file; PNG and WebP are lossless here."""

_FORMATS: Final = {
    pb.IMAGE_FORMAT_UNSPECIFIED: ("PNG", "JPEG", "WEBP"),
    pb.IMAGE_FORMAT_PNG: ("PNG",),
    pb.IMAGE_FORMAT_JPEG: ("JPEG",),
    pb.IMAGE_FORMAT_WEBP: ("WEBP",),
}
_ENCODINGS: Final = {
    "png": (pb.IMAGE_FORMAT_PNG, {"compress_level": 1}),
    "jpeg": (pb.IMAGE_FORMAT_JPEG, {"quality": 92, "subsampling": 0}),
    "webp": (pb.IMAGE_FORMAT_WEBP, {"lossless": True, "method": 0}),
}
_DECODER_UNPACKS: Final = 1 << 20
_CHANNELS: Final = {pb.PIXEL_FORMAT_L8: 1, pb.PIXEL_FORMAT_RGB8: 3}
_SIXTEEN_BIT_MODES: Final = ("I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class ImageLimits:
    """What may be decoded.

    Attributes:
        max_bytes: largest encoded picture, in bytes.
        max_pixels: most pixels (width x height) of one picture; a 40-megapixel camera passes.
        max_side: longest side, in pixels.
        min_side: shortest side, in pixels; below it no border can be told from its surroundings.
        max_profile_bytes: largest colour profile, unpacked; those of printing presses have up to 3 MB.
        max_exif_bytes: most EXIF; a JPEG segment of it has at most 64 KB.
        max_metadata_bytes: most XMP, texts and the like, unpacked.
        max_scans: most passes of a progressive JPEG; encoders use about ten, and each costs a whole decoding.
    """

    max_bytes: int = 16 * 2**20
    max_pixels: int = 40_000_000
    max_side: int = 8192
    min_side: int = 8
    max_profile_bytes: int = 4 * 2**20
    max_exif_bytes: int = 256 * 2**10
    max_metadata_bytes: int = 4 * 2**20
    max_scans: int = 64

    def check_size(self, width: int, height: int) -> None:
        """Refuse a picture whose header promises too much or too little.

        Raises:
            ImageError: with the size found and the limit that it breaks.
        """
        if width * height > self.max_pixels or max(width, height) > self.max_side:
            raise ImageError(
                f"the picture has {width} x {height} pixels; at most {self.max_pixels:,} pixels and"
                f" {self.max_side:,} a side are read. Scale it down, or send a crop with its region.",
                reason=pb.ERROR_REASON_IMAGE_TOO_LARGE,
            )
        if min(width, height) < self.min_side:
            raise ImageError(
                f"the picture has {width} x {height} pixels; at least {self.min_side} a side are needed.",
                reason=pb.ERROR_REASON_IMAGE_TOO_SMALL,
            )

    def check_bytes(self, count: int) -> None:
        """Refuse a file that is too large to be looked at.

        Raises:
            ImageError: with the count found and the limit.
        """
        if count > self.max_bytes:
            raise ImageError(
                f"the picture's file has {count:,} bytes; at most {self.max_bytes:,} are read.",
                reason=pb.ERROR_REASON_IMAGE_TOO_LARGE,
            )

    def check_header(self, header: Header) -> None:
        """Refuse an animation, and a file that carries too much beside its pixels.

        Raises:
            ImageError: with what was found and the limit that it breaks.
        """
        if header.is_animated:
            raise ImageError(
                "the picture is an animation; send one frame.", reason=pb.ERROR_REASON_IMAGE_UNDECODABLE
            )
        for what, found, limit in (
            ("bytes of colour profile", header.profile_bytes, self.max_profile_bytes),
            ("bytes of EXIF", header.exif_bytes, self.max_exif_bytes),
            ("bytes of metadata", header.metadata_bytes, self.max_metadata_bytes),
            ("scans", header.scans, self.max_scans),
        ):
            if found > limit:
                raise ImageError(
                    f"the picture's file has over {limit:,} {what}; send the picture without them.",
                    reason=pb.ERROR_REASON_IMAGE_TOO_LARGE,
                )


DEFAULT_IMAGE_LIMITS: Final = ImageLimits()


def decode_image(message: pb.Image, limits: ImageLimits = DEFAULT_IMAGE_LIMITS) -> NDArray[np.uint8]:
    """Pixels of a picture, (H, W, 3) uint8 sRGB.

    Raises:
        ImageError: missing, broken, animated, of another format, or beyond a limit.
    """
    if message.WhichOneof("content") == "raw":
        return _decode_raw(message.raw, limits, channels=3)
    return _to_rgb(_open_encoded(message, limits))


def decode_mask(message: pb.Image, limits: ImageLimits = DEFAULT_IMAGE_LIMITS) -> NDArray[np.float32]:
    """A mask, (H, W) float32 in [0, 1].

    Raises:
        ImageError: as `decode_image`; an empty mask is not refused here, because only its edit knows.
    """
    if message.WhichOneof("content") == "raw":
        return (_decode_raw(message.raw, limits, channels=1)[..., 0] / 255.0).astype(np.float32)
    return _to_mask(_open_encoded(message, limits))


def decode_mask_at(
    message: pb.Image, shape: tuple[int, ...], limits: ImageLimits = DEFAULT_IMAGE_LIMITS
) -> NDArray[np.float32]:
    """A mask at the height and width of a source, (H, W) float32 in [0, 1].

    Raises:
        ImageError: as `decode_mask`, and for another aspect ratio.
    """
    return fit_mask(decode_mask(message, limits), shape)


def fit_mask(mask: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A mask resized to the height and width of a source, (H, W) float32 in [0, 1].

    Raises:
        ImageError: it has another aspect ratio.
    """
    height, width = shape[:2]
    if mask.shape == (height, width):
        return mask
    levels = resize_to(np.round(mask * 255).astype(np.uint8), width, height, what="mask")
    return levels.astype(np.float32) / np.float32(255)


def decode_file(data: bytes, limits: ImageLimits = DEFAULT_IMAGE_LIMITS) -> NDArray[np.uint8]:
    """Pixels of a picture file's bytes, (H, W, 3) uint8 sRGB; raises as `decode_image`."""
    return decode_image(pb.Image(encoded=pb.EncodedImage(data=data)), limits)


def decode_mask_file(data: bytes, limits: ImageLimits = DEFAULT_IMAGE_LIMITS) -> NDArray[np.float32]:
    """A mask from a picture file's bytes, (H, W) float32 in [0, 1]; raises as `decode_image`."""
    return decode_mask(pb.Image(encoded=pb.EncodedImage(data=data)), limits)


def encode_image(pixels: NDArray[np.uint8], encoding: Encoding = "png") -> pb.Image:
    """A picture message from (H, W, 3) or (H, W) uint8; PNG and WebP are lossless, JPEG is of quality 92."""
    image_format, options = _ENCODINGS[encoding]
    buffer = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(pixels)).save(buffer, encoding.upper(), **options)
    return pb.Image(encoded=pb.EncodedImage(format=image_format, data=buffer.getvalue()))


def encode_mask(mask: NDArray[np.floating]) -> pb.Image:
    """A mask message (PNG, one channel) from (H, W) floats in [0, 1]."""
    return encode_image(np.round(np.clip(mask, 0.0, 1.0) * 255).astype(np.uint8))


def raw_image(pixels: NDArray[np.uint8]) -> pb.Image:
    """A picture message of bare pixels from (H, W, 3) or (H, W) uint8; the fastest for both sides."""
    layout = pb.PIXEL_FORMAT_L8 if pixels.ndim == 2 else pb.PIXEL_FORMAT_RGB8
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).tobytes()
    return pb.Image(raw=pb.RawImage(pixel_format=layout, width=width, height=height, data=data))


def pixel_count(message: pb.Image, limits: ImageLimits = DEFAULT_IMAGE_LIMITS) -> int:
    """Width x height from the header alone, checked against the limits; raises as `decode_image`."""
    if message.WhichOneof("content") == "raw":
        width, height = message.raw.width, message.raw.height
        limits.check_size(width, height)
    else:
        header = _header_of(message, limits)
        width, height = header.width, header.height
    return width * height


def paste_region(
    source: NDArray[np.uint8],
    picture: NDArray[np.uint8],
    region: pb.Box | None,
    copied: Callable[[], NDArray[np.uint8]] | None = None,
) -> NDArray[np.uint8]:
    """The whole edited image: `picture` at `region` of `source`, resized when its aspect ratio fits.

    Args:
        source: (H, W, 3) uint8.
        picture: (h, w, 3) uint8.
        region: box in pixels of the source; None when the picture shows all of it.
        copied: a copy of the source that is the caller's own, for one who has it in store.

    Returns:
        (H, W, 3) uint8; beyond the region it is the source's own pixels.

    Raises:
        ImageError: the box leaves the source, or the picture's aspect ratio does not fit the box.
    """
    height, width = source.shape[:2]
    box = region if region is not None else pb.Box(x=0, y=0, width=width, height=height)
    _check_box(box, width, height)
    fitted = resize_to(picture, box.width, box.height, what="candidate")
    if region is None:
        return fitted
    whole = (copied or source.copy)()
    whole[box.y : box.y + box.height, box.x : box.x + box.width] = fitted
    return whole


def resize_to(pixels: NDArray[np.uint8], width: int, height: int, *, what: str) -> NDArray[np.uint8]:
    """`pixels` at width x height; refuses a change of aspect ratio beyond one pixel of rounding.

    Raises:
        ImageError: with both sizes.
    """
    rows, columns = pixels.shape[:2]
    if (columns, rows) == (width, height):
        return pixels
    if not _same_aspect(columns, rows, width, height):
        raise ImageError(
            f"the {what} has {columns} x {rows} pixels, which does not fit {width} x {height}."
            " Send it at that size, or at the same aspect ratio.",
            reason=pb.ERROR_REASON_MASK_SIZE if "mask" in what else pb.ERROR_REASON_IMAGE_SIZE,
        )
    resized = PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BICUBIC)
    return np.asarray(resized)


def _same_aspect(columns: int, rows: int, width: int, height: int) -> bool:
    scale = width / columns
    return abs(rows * scale - height) <= max(1.0, scale)


def _check_box(box: pb.Box, width: int, height: int) -> None:
    inside = box.x >= 0 and box.y >= 0 and box.x + box.width <= width and box.y + box.height <= height
    if not inside or box.width < 1 or box.height < 1:
        raise ImageError(
            f"the region {box.width} x {box.height} at ({box.x}, {box.y}) leaves the source of"
            f" {width} x {height} pixels.",
            reason=pb.ERROR_REASON_IMAGE_SIZE,
            field="region",
        )


def _decode_raw(raw: pb.RawImage, limits: ImageLimits, channels: int) -> NDArray[np.uint8]:
    found = _CHANNELS.get(raw.pixel_format, 0)
    if not found:
        raise ImageError("a raw picture needs its pixel format.", reason=pb.ERROR_REASON_FIELD_INVALID)
    if raw.width < 1 or raw.height < 1:
        raise ImageError(
            f"a raw picture of {raw.width} x {raw.height} pixels.", reason=pb.ERROR_REASON_IMAGE_SIZE
        )
    limits.check_size(raw.width, raw.height)
    # Read once: every look at a field of bytes is a copy of it.
    expected, data = raw.width * raw.height * found, raw.data
    if len(data) != expected:
        raise ImageError(
            f"a raw picture of {raw.width} x {raw.height} x {found} needs {expected:,} bytes,"
            f" but {len(data):,} came.",
            reason=pb.ERROR_REASON_IMAGE_SIZE,
        )
    pixels = np.frombuffer(data, np.uint8).reshape(raw.height, raw.width, found)
    if found == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(PillowImage.fromarray(pixels).convert("L"))[..., None]


def _header_of(message: pb.Image, limits: ImageLimits) -> Header:
    """Format, size, frames and extras, checked without any decoder."""
    data = message.encoded.data
    if not data:
        raise ImageError("the picture is missing or empty.", reason=pb.ERROR_REASON_FIELD_MISSING)
    limits.check_bytes(len(data))
    formats = _formats_of(message)
    what = f"the {len(data):,} bytes are no {' or '.join(formats)} picture"
    try:
        header = read_header(data, max(limits.max_profile_bytes, limits.max_metadata_bytes))
    except ContainerError as error:
        raise _undecodable(f"{what}: {error}") from error
    if header.format not in formats:
        raise _undecodable(what)
    limits.check_size(header.width, header.height)
    limits.check_header(header)
    return header


def _formats_of(message: pb.Image) -> tuple[str, ...]:
    formats = _FORMATS.get(message.encoded.format)
    if formats is None:
        raise _undecodable(
            f"the format {message.encoded.format} is not known here; PNG, JPEG and WebP are read"
        )
    return formats


def _readable(data: bytes, header: Header) -> bytes:
    """The file, without what the decoder would stumble over although it is within our limits."""
    extras = max(header.profile_bytes, header.metadata_bytes)
    return without_extras(data) if extras > _DECODER_UNPACKS else data


def _open_encoded(message: pb.Image, limits: ImageLimits) -> PillowImage.Image:
    """Opened, not decoded yet; the decoder has to read the same size and one frame."""
    header = _header_of(message, limits)
    try:
        with warnings.catch_warnings():
            # Our own limits are stricter than the one that Pillow warns of, and damaged EXIF is not worth a word.
            warnings.simplefilter("ignore")
            opened = PillowImage.open(
                io.BytesIO(_readable(message.encoded.data, header)), formats=(header.format,)
            )
    except MemoryError:
        raise
    # Pillow's plug-ins raise a dozen unrelated types on damaged files.
    except Exception as error:
        raise _undecodable(f"the {len(message.encoded.data):,} bytes are no whole {header.format}") from error
    if opened.size != (header.width, header.height):
        raise _undecodable("the picture says two different sizes")
    if getattr(opened, "n_frames", 1) > 1:
        raise ImageError(
            "the picture is an animation; send one frame.", reason=pb.ERROR_REASON_IMAGE_UNDECODABLE
        )
    return opened


def _load(opened: PillowImage.Image) -> PillowImage.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened.load()
            return ImageOps.exif_transpose(opened)
    except MemoryError:
        raise
    # Pillow's decoders raise a dozen unrelated types on damaged files.
    except Exception as error:
        raise _undecodable("the picture breaks off or is damaged") from error


def _undecodable(what: str) -> ImageError:
    return ImageError(f"{what}; send a whole PNG, JPEG or WebP.", reason=pb.ERROR_REASON_IMAGE_UNDECODABLE)


def _to_rgb(opened: PillowImage.Image) -> NDArray[np.uint8]:
    image = _eight_bit(_load(opened))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = PillowImage.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return np.asarray(image.convert("RGB"))


def _to_mask(opened: PillowImage.Image) -> NDArray[np.float32]:
    image = _eight_bit(_load(opened))
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            image = alpha
    return np.asarray(image.convert("L"), np.float32) / 255.0


def _eight_bit(image: PillowImage.Image) -> PillowImage.Image:
    if image.mode not in _SIXTEEN_BIT_MODES:
        return image
    levels = np.asarray(image, np.float32) / 257.0
    return PillowImage.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
