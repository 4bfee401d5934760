"""What is done about a face: the source's own again, or the face alone once more, in words that name it.

An engine works on a crop round what it inpaints, at its native size; so a face that is inpainted by itself is large, as
ADetailer and FaceDetailer have it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.engine import Engine
from editcritic.refine.masks import feathered
from editcritic.refine.retouch import recomposited
from editcritic.refine.tokens import TokenCounter
from editcritic.v1 import critic_pb2 as pb

__all__ = ["face_prompt", "restored_face"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_DESCRIPTION = "close-up of a face, natural eyes and mouth, sharp focus"
_COMMAND = "make the face natural and sharp, keep the same person"
_MARGIN = 0.1  # of a face's side: a detector's box ends at the brows and the chin
_SAME = 0.3  # share of the face's box that an action's region covers at least


def face_prompt(prompt: str, engine: Engine, count_tokens: TokenCounter) -> str:
    """The words for a face alone: the edit's own and a description, or a command to an engine that takes commands.

    As they are for an engine of a closed vocabulary, and where the description would not be read whole.
    """
    able = engine.capabilities
    if able.words:
        return prompt
    if able.instruction:
        return _COMMAND
    told = f"{prompt}, {_DESCRIPTION}" if prompt else _DESCRIPTION
    return told if count_tokens(told) <= able.prompt_tokens else prompt


def restored_face(
    source: Pixels, picture: Pixels, blend: Array, critique: pb.Critique, region: pb.Box
) -> Pixels | None:
    """The edit with the source's face in it; None where the critique knows none there that is to stay.

    source, picture: (H, W, 3) uint8. blend: (H, W) in [0, 1]. region: where, in pixels of the source.
    A face is to stay when the source has it and the prompt asks for no other: the critic says so (`keeps_identity`).
    The rim of the restored part is soft.
    """
    kept = [each.box for each in critique.faces if each.keeps_identity and _shared(each.box, region) > _SAME]
    if not kept:
        return None
    rows, columns = np.mgrid[0 : blend.shape[0], 0 : blend.shape[1]] + 0.5
    face = np.zeros(blend.shape, np.float32)
    for box in kept:
        across = (columns - box.x - box.width / 2) / (box.width * (0.5 + _MARGIN))
        down = (rows - box.y - box.height / 2) / (box.height * (0.5 + _MARGIN))
        face = np.maximum(face, np.hypot(across, down) <= 1)
    weight = feathered(face)[..., None] if face.any() else face[..., None]
    mixed = picture + weight * (source.astype(np.float32) - picture)
    return recomposited(source, np.rint(mixed).astype(np.uint8), blend)


def _shared(one: pb.Box, other: pb.Box) -> float:
    """Share of the first box within the second."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    return max(width, 0) * max(height, 0) / max(one.width * one.height, 1)
