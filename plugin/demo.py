"""A real photograph: an edit of it to carry out, and another with four answers of which one is right.

The photograph itself is the good answer: the source is made from it by putting a sticker on the table. It comes
with scikit-image (coffee cup by Rachel Michetti, CC0).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from editcritic.plugin.client import make_candidate, make_edit
from editcritic.refine.masks import feathered
from editcritic.server.critics import DEFAULT_CRITIC
from editcritic.v1 import critic_pb2 as pb

__all__ = ["DEMO_CRITIC", "DEMO_ENGINE", "DEMO_PROMPT", "Demo", "demo_edit", "make_demo"]

DEMO_CRITIC = DEFAULT_CRITIC
DEMO_ENGINE = "tabletop"
DEMO_PROMPT = "a shiny blue ball"
_CENTRE, _AXES = (480, 318), (78, 58)
_PLACE, _PLACE_RADIUS = (515, 300), 62
_SEAM_LEVELS = np.array([26.0, 20.0, 10.0])
_BLUR_SIGMA_PX = 5.0


@dataclass(frozen=True)
class Demo:
    """The edit and its candidates by name: good, seamed, blurred, empty."""

    edit: pb.Edit
    candidates: dict[str, pb.Candidate]


def demo_edit() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The photograph (H, W, 3) uint8 and the mask (H, W) float32 of the edit to carry out: a place on the table."""
    photo = np.asarray(data.coffee(), np.uint8)  # type: ignore[no-untyped-call]
    mask = np.zeros(photo.shape[:2], np.uint8)
    cv2.circle(mask, _PLACE, _PLACE_RADIUS, 1, cv2.FILLED)
    return photo, mask.astype(np.float32)


def make_demo() -> Demo:
    """Build the demonstration; the same pixels every time."""
    photo = np.asarray(data.coffee(), np.uint8)  # type: ignore[no-untyped-call]
    mask = _ellipse(photo.shape[:2])
    source = _stickered(photo, mask)
    fills = {
        "blurred": cv2.GaussianBlur(photo, (0, 0), _BLUR_SIGMA_PX),
        "empty": np.full_like(photo, photo[mask > 0].mean(axis=0).round()),
        "good": photo,
        "seamed": np.clip(photo + _SEAM_LEVELS, 0, 255).astype(np.uint8),
    }
    blend = feathered(mask)
    pictures = {name: _blended(source, fill, blend) for name, fill in fills.items()}
    return Demo(
        make_edit(source, mask, prompt="", blend_mask=blend, edit_id="demo"),
        {name: make_candidate(picture, name) for name, picture in pictures.items()},
    )


def _blended(
    source: NDArray[np.uint8], fill: NDArray[np.uint8], blend: NDArray[np.float32]
) -> NDArray[np.uint8]:
    weight = blend[..., None]
    return np.round(source * (1 - weight) + fill * weight).astype(np.uint8)


def _ellipse(shape: tuple[int, ...]) -> NDArray[np.float32]:
    mask = np.zeros(shape[:2], np.uint8)
    cv2.ellipse(mask, _CENTRE, _AXES, 0, 0, 360, 1, cv2.FILLED)
    return mask.astype(np.float32)


def _stickered(photo: NDArray[np.uint8], mask: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The photograph with a cat's face on the table, a little smaller than the mask."""
    cat = np.asarray(data.chelsea(), np.uint8)  # type: ignore[no-untyped-call]
    (x, y), (half_width, half_height) = _CENTRE, _AXES
    sticker = cv2.resize(cat[60:240, 110:350], (2 * half_width, 2 * half_height))
    layer = photo.copy()
    layer[y - half_height : y + half_height, x - half_width : x + half_width] = sticker
    inside = cv2.erode(mask, np.ones((9, 9), np.uint8))[..., None] > 0
    return np.where(inside, layer, photo)
