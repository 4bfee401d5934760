"""Whatever a caller has for a picture (file, bytes, Pillow image, array) as messages of the contract."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError
from editcritic.v1.images import Encoding, encode_image, encode_mask

__all__ = ["Picture", "as_image", "as_mask", "make_candidate", "make_edit"]

Picture: TypeAlias = "str | os.PathLike[str] | bytes | PillowImage.Image | NDArray[np.generic] | pb.Image"
"""A path, a file's bytes, a Pillow image, an array, or a message that was made before."""


def make_edit(
    source: Picture,
    mask: Picture,
    prompt: str = "",
    *,
    blend_mask: Picture | None = None,
    negative_prompt: str = "",
    edit_id: str = "",
) -> pb.Edit:
    """An edit: what the user asked for.

    Args:
        source: the image before the edit.
        mask: where the engine was free; white inside, of the source's size or aspect ratio.
        prompt: what was asked for; empty for a removal.
        blend_mask: the mask that the result was blended with, when it is another one.
        negative_prompt: what was to be avoided.
        edit_id: name of the edit; the server makes one when it is empty.

    Raises:
        ImageError: a file cannot be read, or an array is no picture.
    """
    return pb.Edit(
        edit_id=edit_id,
        source=as_image(source),
        denoise_mask=as_mask(mask),
        blend_mask=None if blend_mask is None else as_mask(blend_mask),
        prompt=prompt,
        negative_prompt=negative_prompt,
    )


def make_candidate(
    picture: Picture,
    candidate_id: str = "",
    *,
    region: tuple[int, int, int, int] | pb.Box | None = None,
    seed: int | None = None,
    encoding: Encoding = "png",
) -> pb.Candidate:
    """A candidate: one inpainted answer.

    Args:
        picture: the whole edited image, or the part that `region` names.
        candidate_id: its name; needed on a stream and in a ranking.
        region: x, y, width and height of the part, in pixels of the source.
        seed: seed that produced it, for the record.
        encoding: how pixels travel that are no file yet; "jpeg" is smallest and not lossless.

    Raises:
        ImageError: a file cannot be read, or an array is no picture.
    """
    if isinstance(region, tuple):
        x, y, width, height = region
        region = pb.Box(x=x, y=y, width=width, height=height)
    image = as_image(picture, encoding)
    return pb.Candidate(candidate_id=candidate_id, image=image, region=region, seed=seed)


def as_image(picture: Picture, encoding: Encoding = "png") -> pb.Image:
    """A picture as a message. Files and bytes travel as they are; pixels are encoded.

    Args:
        picture: arrays are (H, W, 3) or (H, W), uint8 or floats in [0, 1].
        encoding: for pixels.

    Raises:
        ImageError: a file cannot be read, or an array is no picture.
    """
    if isinstance(picture, pb.Image):
        return picture
    if isinstance(picture, PillowImage.Image):
        return encode_image(np.asarray(picture.convert("RGB")), encoding)
    if isinstance(picture, np.ndarray):
        return encode_image(_eight_bit(picture), encoding)
    return _file_image(picture)


def as_mask(picture: Picture) -> pb.Image:
    """A mask as a message, from a picture as `as_image` takes it or a (H, W) array of booleans.

    Raises:
        ImageError: a file cannot be read, or an array is no mask.
    """
    if isinstance(picture, pb.Image):
        return picture
    if isinstance(picture, PillowImage.Image):
        has_alpha = picture.mode in ("RGBA", "LA")
        return encode_image(np.asarray(picture.convert("RGBA" if has_alpha else "L")))
    if isinstance(picture, np.ndarray):
        mask = np.squeeze(picture)
        if mask.ndim != 2:
            raise _bad_array(picture, "a mask has one value for each pixel")
        return encode_mask(mask.astype(np.float64) / (255.0 if mask.dtype == np.uint8 else 1.0))
    return _file_image(picture)


def _file_image(picture: str | os.PathLike[str] | bytes) -> pb.Image:
    if isinstance(picture, bytes):
        return pb.Image(encoded=pb.EncodedImage(data=picture))
    try:
        data = Path(picture).read_bytes()
    except OSError as error:
        raise ImageError(
            f"cannot read {os.fspath(picture)}: {error.strerror or error}.",
            reason=pb.ERROR_REASON_IMAGE_UNDECODABLE,
        ) from error
    return pb.Image(encoded=pb.EncodedImage(data=data))


def _eight_bit(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    pixels = np.squeeze(array)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise _bad_array(array, "a picture has the shape (H, W, 3) or (H, W)")
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise _bad_array(array, "a picture is uint8 or floats in [0, 1]")
    levels = pixels.astype(np.float64)
    if not np.isfinite(levels).all():
        raise _bad_array(array, "a picture has no NaN or infinite values")
    return np.round(np.clip(levels, 0.0, 1.0) * 255).astype(np.uint8)


def _bad_array(array: NDArray[np.generic], expected: str) -> ImageError:
    return ImageError(
        f"an array of shape {array.shape} and type {array.dtype} came; {expected}.",
        reason=pb.ERROR_REASON_IMAGE_SIZE,
    )
