"""Q-Align and DeQA-Score: five words for the quality of one picture, and the expectation over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from editcritic.server.critics.multimodal.levels import LEVELS, LevelDistribution
from editcritic.server.critics.multimodal.model import MultimodalModel, open_model
from editcritic.server.critics.published.base import JudgeCritic, Rating, Shown, Terms
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb

__all__ = ["QAlign", "open_q_align"]

_QUESTION = "How would you rate the quality of this picture?"
_BEGIN = "Quality:\n"


class QAlign:
    """One forward pass; softmax over the five words alone, as both papers do it."""

    name = "q_align"
    dimensions: Sequence[pb.Dimension.ValueType] = (pb.DIMENSION_NATURALNESS,)
    terms = Terms(
        source="Q-Align (Wu et al. 2023) and DeQA-Score (You et al. 2025)",
        licence="Q-Align: S-Lab, not for commerce; DeQA-Score: MIT",
        sees_source=False,
        sees_mask=False,
        meaning=(
            "Expectation over excellent (100), good (75), fair (50), poor (25) and bad (0) of the next word; it rates"
            " the region as a picture, not whether it fits."
        ),
    )

    def __init__(self, model: MultimodalModel) -> None:
        model.first_tokens(LEVELS)
        self._model = model
        self.model, self.device = model.name, str(model.device)

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """Naturalness alone."""
        levels = LevelDistribution(self._model.word_probabilities([shown.after], _QUESTION, LEVELS, _BEGIN))
        return {pb.DIMENSION_NATURALNESS: Rating(levels.value, levels.stddev)}


def open_q_align(weights: str, options: LoadOptions = AS_IT_IS) -> JudgeCritic:
    """The judge with a model of a folder, or of a hub by its id."""
    return JudgeCritic(QAlign(open_model(weights, options)))
