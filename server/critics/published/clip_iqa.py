"""CLIP-IQA: is the region nearer to "a good photo" or to "a bad photo"?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from editcritic.server.critics.dual_encoder.encoder import DualEncoder, Encoder
from editcritic.server.critics.published.base import JudgeCritic, Rating, Shown, Terms
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb

__all__ = ["ClipIqa", "open_clip_iqa"]

_PAIRS = (
    ("Good photo.", "Bad photo."),
    ("Sharp photo.", "Blurry photo."),
    ("Natural photo.", "Synthetic photo."),
    ("Clean photo.", "Noisy photo."),
)
_SCALE = 100.0
"""CLIP's own temperature; the paper keeps it."""


class ClipIqa:
    """Mean over antonym pairs of the probability of the good word; its spread over pairs is the doubt."""

    name = "clip_iqa"
    dimensions: Sequence[pb.Dimension.ValueType] = (pb.DIMENSION_NATURALNESS,)
    terms = Terms(
        source="CLIP-IQA (Wang, Chan and Loy 2023)",
        licence="that of the CLIP model",
        sees_source=False,
        sees_mask=False,
        meaning=(
            "Mean over four antonym pairs of the softmax probability of the good word, times 100; it says how good a"
            " photo the region looks, not whether it fits."
        ),
    )

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.model, self.device = encoder.name, str(encoder.device)
        self._words = encoder.texts([word for pair in _PAIRS for word in pair])

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """Naturalness alone."""
        alike = (self._words @ self._encoder.pictures([shown.after]).T).reshape(-1, 2)
        good = 100 * torch.softmax(_SCALE * alike, -1)[:, 0]
        return {pb.DIMENSION_NATURALNESS: Rating(float(good.mean()), float(good.std()))}


def open_clip_iqa(weights: str, options: LoadOptions = AS_IT_IS) -> JudgeCritic:
    """The judge with a CLIP of a folder, or of a hub by its id."""
    return JudgeCritic(ClipIqa(DualEncoder(weights, options)))
