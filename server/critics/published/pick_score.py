"""PickScore and HPSv2: of the pictures before and after, which one would people pick for these words?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from editcritic.server.critics.dual_encoder.encoder import DualEncoder, Encoder
from editcritic.server.critics.published.base import JudgeCritic, Rating, Shown, Terms
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["PickScore", "ScaledEncoder", "open_pick_score"]

_DOUBT = 0.5
"""Standard deviation of a difference of scores: what another wording moves it by, of the order of one half."""


class ScaledEncoder(Encoder, Protocol):
    """Pictures and texts as points of one space, and what their likeness is multiplied by.

    Attributes:
        scale: learned with the points; None where none was.
    """

    scale: float | None


class PickScore:
    """The probability that people prefer the region after the edit to the one before it, for the same words.

    Both papers train likenesses so that the softmax over two pictures is the share of people who pick each; the
    picture before the edit is the other one here, so no mean and no spread of anybody's pictures enter.

    Raises:
        InvalidInput: the encoder was not taught with a scale.
    """

    name = "pick_score"
    dimensions: Sequence[pb.Dimension.ValueType] = (pb.DIMENSION_PROMPT_ALIGNMENT,)
    terms = Terms(
        source="PickScore (Kirstain et al. 2023) and HPSv2 (Wu et al. 2023)",
        licence="PickScore: MIT; HPSv2: Apache-2.0",
        sees_source=True,
        sees_mask=False,
        meaning=(
            "Probability in per cent that people pick the region after the edit rather than before it for the prompt:"
            " softmax over both of the model's scaled likeness to the prompt. 50 is an edit that changed nothing."
        ),
    )

    def __init__(self, encoder: ScaledEncoder) -> None:
        if encoder.scale is None:
            raise InvalidInput(f"{encoder.name} has no logit_scale, by which PickScore and HPSv2 are read")
        self._encoder, self._scale = encoder, encoder.scale
        self.model, self.device = encoder.name, str(encoder.device)

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """Prompt alignment, where there is a prompt."""
        if not shown.prompt:
            return {}
        alike = self._encoder.pictures([shown.before, shown.after]) @ self._encoder.texts([shown.prompt])[0]
        gain = self._scale * float(alike[1] - alike[0])
        low, high = (_share(gain + sign * _DOUBT) for sign in (-1, 1))
        return {pb.DIMENSION_PROMPT_ALIGNMENT: Rating(100 * _share(gain), 50 * (high - low))}


def _share(gain: float) -> float:
    """Softmax over two scores, from their difference."""
    return 0.5 * (1 + math.tanh(gain / 2))


def open_pick_score(weights: str, options: LoadOptions = AS_IT_IS) -> JudgeCritic:
    """The judge with a CLIP of a folder, or of a hub by its id; see `DualEncoder` for what it raises."""
    return JudgeCritic(PickScore(DualEncoder(weights, options)))
