"""Requests to arrays: every check of a field, its size and its range, before anything is judged."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from editcritic.server.canvas import MAX_LIGHT_BYTES
from editcritic.server.critics.base import DecodedCandidate, DecodedEdit
from editcritic.server.decoders import IN_PROCESS, Decoder
from editcritic.server.settings import MAX_ID_CHARS, ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError, InvalidInput
from editcritic.v1.images import ImageLimits, fit_mask, paste_region, pixel_count

__all__ = [
    "check_id",
    "check_options",
    "decode_candidate",
    "decode_edit",
    "decode_within",
    "decoded_byte_count",
    "is_light",
]

_ID = re.compile(r"[A-Za-z0-9._:-]+")
_PICTURE_BYTES_PER_PIXEL = 3
_MASKS_BYTES_PER_PIXEL = 4 + 4  # two of floats
MASK_THRESHOLD = 0.5
"""A mask that nowhere exceeds it is empty: stock inpainting pipelines binarise at this value."""


def decode_edit(edit: pb.Edit, settings: ServerSettings, decoder: Decoder = IN_PROCESS) -> DecodedEdit:
    """An edit as arrays.

    Args:
        edit: as it came.
        settings: the limits.
        decoder: where its pictures are decoded.

    Raises:
        InvalidInput: a field is missing, out of range, or does not fit the others; `field` names it.
    """
    edit_id = check_id(edit.edit_id, "edit_id") if edit.edit_id else uuid.uuid4().hex
    _check_prompt(edit.prompt, "prompt", settings.max_prompt_chars)
    _check_prompt(edit.negative_prompt, "negative_prompt", settings.max_prompt_chars)
    source = _decode_picture(edit.source, "source", settings.images, decoder)
    denoise_mask = _decode_mask(edit.denoise_mask, "denoise_mask", source, settings.images, decoder)
    blend_mask = None
    if edit.HasField("blend_mask"):
        blend_mask = _decode_mask(edit.blend_mask, "blend_mask", source, settings.images, decoder)
    return DecodedEdit(edit_id, source, denoise_mask, blend_mask, edit.prompt, edit.negative_prompt)


def decode_candidate(
    candidate: pb.Candidate,
    progress: pb.DenoisingProgress | None,
    source: NDArray[np.uint8],
    settings: ServerSettings,
    decoder: Decoder = IN_PROCESS,
    copied: Callable[[], NDArray[np.uint8]] | None = None,
) -> DecodedCandidate:
    """A candidate as an array of the whole edit.

    Args:
        candidate: as it came.
        progress: set for a preview.
        source: (H, W, 3) uint8, the edit's source.
        settings: the limits.
        decoder: where its picture is decoded.
        copied: a copy of the source to paste a region into; made here by default.

    Raises:
        InvalidInput: a field is missing, out of range, or does not fit the edit; `field` names it.
    """
    if candidate.candidate_id:
        check_id(candidate.candidate_id, "candidate_id")
    if progress is not None and not 0.0 < progress.fraction <= 1.0:
        raise InvalidInput(
            f"progress.fraction is {progress.fraction}; it must be over 0 and at most 1.",
            reason=pb.ERROR_REASON_FIELD_INVALID,
            field="progress.fraction",
        )
    picture = _decode_picture(candidate.image, "image", settings.images, decoder)
    region = candidate.region if candidate.HasField("region") else None
    whole = paste_region(source, picture, region, copied)
    return DecodedCandidate(candidate.candidate_id, whole, region, progress)


def decode_within(
    byte_count: int,
    candidate: pb.Candidate,
    progress: pb.DenoisingProgress | None,
    source: NDArray[np.uint8],
    settings: ServerSettings,
    decoder: Decoder = IN_PROCESS,
) -> DecodedCandidate | int:
    """`decode_candidate` if its picture takes at most so many bytes; else nothing is decoded, and it says how many.

    Raises:
        InvalidInput: as `decode_candidate`.
    """
    needed = decoded_byte_count(candidate, settings.images)
    return needed if needed > byte_count else decode_candidate(candidate, progress, source, settings, decoder)


def is_light(candidate: pb.Candidate, source: NDArray[np.uint8]) -> bool:
    """Whether decoding only copies pixels, and so few of them that the way to a thread and back would take longer.

    Bare pixels of the region's own size, on a source of at most 2 MiB. Anything else is for a thread.
    """
    if source.nbytes > MAX_LIGHT_BYTES or candidate.image.WhichOneof("content") != "raw":
        return False
    raw, (height, width) = candidate.image.raw, source.shape[:2]
    region = candidate.region if candidate.HasField("region") else pb.Box(width=width, height=height)
    return (raw.width, raw.height) == (
        region.width,
        region.height,
    ) and raw.width * raw.height <= width * height


def check_id(value: str, field: str) -> str:
    """The identifier itself.

    Raises:
        InvalidInput: it is empty, too long, or has other characters than [A-Za-z0-9._:-].
    """
    if value and len(value) <= MAX_ID_CHARS and _ID.fullmatch(value):
        return value
    found = f"{len(value)} characters, {value[:80]!r}" if value else "nothing"
    raise InvalidInput(
        f"{field} must be 1 to {MAX_ID_CHARS} characters of [A-Za-z0-9._:-]; {found} came.",
        reason=pb.ERROR_REASON_FIELD_INVALID if value else pb.ERROR_REASON_FIELD_MISSING,
        field=field,
    )


def check_options(options: pb.CritiqueOptions) -> pb.CritiqueOptions:
    """The options with their defaults filled in.

    Raises:
        InvalidInput: a number is out of its range.
    """
    filled = pb.CritiqueOptions()
    filled.CopyFrom(options)
    for name, low, high, default in (
        ("heat_map_max_side", 16, 1024, 256),
        ("max_defect_count", 1, 64, 16),
        ("budget_ms", 1, 2**31 - 1, 0),
    ):
        value = getattr(options, name)
        if value and not low <= value <= high:
            raise InvalidInput(
                f"options.{name} is {value}; it must be {low} to {high}, or 0 for the default.",
                reason=pb.ERROR_REASON_FIELD_INVALID,
                field=f"options.{name}",
            )
        setattr(filled, name, value or default)
    return filled


def decoded_byte_count(message: pb.Edit | pb.Candidate, limits: ImageLimits) -> int:
    """Memory that the message takes once decoded, in bytes, from its headers alone.

    Raises:
        ImageError: the header is broken or beyond a limit.
    """
    if isinstance(message, pb.Candidate):
        return _pixel_count(message.image, "image", limits) * _PICTURE_BYTES_PER_PIXEL
    pixels = _pixel_count(message.source, "source", limits)
    picture_bytes = pixels * _PICTURE_BYTES_PER_PIXEL
    copy_in_store = picture_bytes if picture_bytes <= MAX_LIGHT_BYTES else 0
    return picture_bytes + copy_in_store + pixels * _MASKS_BYTES_PER_PIXEL


def _pixel_count(picture: pb.Image, field: str, limits: ImageLimits) -> int:
    try:
        return pixel_count(picture, limits)
    except ImageError as error:
        raise error.in_field(field) from error


def _decode_picture(
    message: pb.Image, field: str, limits: ImageLimits, decoder: Decoder
) -> NDArray[np.uint8]:
    try:
        return decoder.picture(message, limits)
    except ImageError as error:
        raise error.in_field(field) from error


def _decode_mask(
    message: pb.Image, field: str, source: NDArray[np.uint8], limits: ImageLimits, decoder: Decoder
) -> NDArray[np.float32]:
    try:
        mask = fit_mask(decoder.mask(message, limits), source.shape)
        if float(mask.max()) <= MASK_THRESHOLD:
            raise ImageError(
                f"the mask is empty: its highest value is {float(mask.max()) * 255:.0f} of 255,"
                " and nowhere above one half.",
                reason=pb.ERROR_REASON_MASK_EMPTY,
            )
    except ImageError as error:
        raise error.in_field(field) from error
    return mask


def _check_prompt(prompt: str, field: str, limit: int) -> None:
    if len(prompt) > limit:
        raise InvalidInput(
            f"the {field} has {len(prompt):,} characters; at most {limit:,} are read. Shorten it.",
            reason=pb.ERROR_REASON_PROMPT_TOO_LONG,
            field=field,
        )
