"""EditScore: two numbers for how the instruction was followed, two for how the picture looks, each the smaller one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from editcritic.server.critics.multimodal.model import MultimodalModel, open_model
from editcritic.server.critics.published.base import JudgeCritic, Rating, Shown, Terms
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ServerFault

__all__ = ["EditScore", "open_editscore", "read_scores"]

_RANGE = 25
_TOKENS = 512
_STDDEV = 8.0
"""Of one number: two steps of twenty-five, since the model tells none of its doubt."""
_FORM = 'Answer with JSON only: {"reasoning": "...", "score": [a, b]}, both whole numbers from 0 (worst) to 25 (best).'
_FOLLOWED = (
    "The first picture is a photograph before an edit, the second one after it. The edit was asked for with the words"
    " between the lines.\n---\n{prompt}\n---\nRate a: how completely the words were followed; b: how far everything"
    f" else stayed as it was. {_FORM}"
)
_LOOKS = f"Rate a: how natural this picture looks, light, space and shapes; b: how free of artifacts it is. {_FORM}"
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")


class EditScore:
    """Semantic consistency and perceptual quality, each the minimum of its two numbers; nothing is sampled.

    The published code gives an answer without numbers a middling score, which then outranks true ones; here it is
    an error.
    """

    name = "editscore"
    dimensions: Sequence[pb.Dimension.ValueType] = (pb.DIMENSION_NATURALNESS, pb.DIMENSION_PROMPT_ALIGNMENT)
    terms = Terms(
        source="EditScore (2025), after VIEScore (Ku et al. 2024)",
        licence="Apache-2.0",
        sees_source=True,
        sees_mask=False,
        meaning=(
            "Naturalness: the smaller of two numbers for looks; prompt alignment: the smaller of how the words were"
            " followed and how far the rest stayed; both times four, from 0..25 to 0..100."
        ),
    )

    def __init__(self, model: MultimodalModel) -> None:
        self._model = model
        self.model, self.device = model.name, str(model.device)

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """Naturalness, and prompt alignment where there is a prompt."""
        looks = self._model.write([shown.after], _LOOKS, _TOKENS)
        ratings = {pb.DIMENSION_NATURALNESS: _smaller(looks)}
        if shown.prompt:
            question = _FOLLOWED.replace("{prompt}", self._model.plain(shown.prompt))
            followed = self._model.write([shown.before, shown.after], question, _TOKENS)
            ratings[pb.DIMENSION_PROMPT_ALIGNMENT] = _smaller(followed)
        return ratings


def _smaller(answer: str) -> Rating:
    return Rating(min(read_scores(answer)) * 100 / _RANGE, _STDDEV)


def read_scores(answer: str) -> tuple[float, float]:
    """Both numbers of an answer, from 0 to 25.

    Raises:
        ServerFault: it is not that JSON, or a number is missing or out of range.
    """
    try:
        told = json.loads(_FENCE.sub("", answer.strip()))
        numbers = told["score"]
        if not isinstance(numbers, list) or len(numbers) != 2:
            raise ValueError("expected two numbers")
        if any(isinstance(each, bool) or not isinstance(each, int | float) for each in numbers):
            raise ValueError("expected numbers")
        if not all(0 <= each <= _RANGE for each in numbers):
            raise ValueError(f"expected numbers from 0 to {_RANGE}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ServerFault(f"the judge's answer has no two scores: {error}") from error
    return float(numbers[0]), float(numbers[1])


def open_editscore(weights: str, options: LoadOptions = AS_IT_IS) -> JudgeCritic:
    """The judge with a model of a folder, or of a hub by its id."""
    return JudgeCritic(EditScore(open_model(weights, options)))
