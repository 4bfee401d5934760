"""EditReward: a mean and a log-deviation, for following the words and for looks, each read from one hidden state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from scipy.stats import norm
from torch import Tensor

from editcritic.server.critics.multimodal.model import MultimodalModel, open_model
from editcritic.server.critics.published.base import JudgeCritic, Rating, Shown, Terms
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, ServerFault

__all__ = ["EditReward", "RewardHead", "open_editreward", "read_heads"]

_REWARD_TOKEN = "<|Reward|>"  # noqa: S105
_MOST_LOG_SIGMA = 3.0
_ASKED = (
    "The first picture is a photograph before an edit, the second one after it. The edit was asked for with the words"
    " between the lines.\n---\n{prompt}\n---\n"
)
_QUESTIONS = (
    _ASKED + "Judge how well the words were followed and nothing else was changed.",
    _ASKED + "Judge how natural the second picture looks and how free of artifacts it is.",
)
_DIMENSIONS = (pb.DIMENSION_PROMPT_ALIGNMENT, pb.DIMENSION_NATURALNESS)


class RewardHead:
    """Linear layers with rectifiers between them: a hidden state (D,) -> (mean, log of the deviation).

    Args:
        layers: (weight, bias) of each.
    """

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    def __call__(self, state: Tensor) -> tuple[float, float]:
        """Mean and deviation, without a unit.

        Raises:
            ServerFault: they are not finite.
        """
        for place, (weight, bias) in enumerate(self._layers):
            state = torch.nn.functional.linear(torch.relu(state) if place else state, weight, bias)
        mean, log_sigma = (float(each) for each in state)
        if not np.isfinite([mean, log_sigma]).all():
            raise ServerFault("the reward head gave no finite number")
        return mean, float(np.exp(np.clip(log_sigma, -_MOST_LOG_SIGMA, _MOST_LOG_SIGMA)))


class EditReward:
    """Two forward passes; the state of the reward token, or the last one where the model has none."""

    name = "editreward"
    dimensions: Sequence[pb.Dimension.ValueType] = _DIMENSIONS
    terms = Terms(
        source="EditReward (Wu et al. 2025)",
        licence="that of the published weights and of their base model",
        sees_source=True,
        sees_mask=False,
        meaning=(
            "100 times the normal distribution at the head's mean: its unbounded scale, zero at even odds against the"
            " average edit; stddev carries the head's deviation through."
        ),
    )

    def __init__(self, model: MultimodalModel, heads: tuple[RewardHead, RewardHead]) -> None:
        self._model, self._heads = model, heads
        self.model, self.device = model.name, str(model.device)

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """Naturalness, and prompt alignment where there is a prompt."""
        ratings = {}
        for dimension, question, head in zip(_DIMENSIONS, _QUESTIONS, self._heads, strict=True):
            if dimension == pb.DIMENSION_PROMPT_ALIGNMENT and not shown.prompt:
                continue
            asked = question.replace("{prompt}", self._model.plain(shown.prompt) or "(nothing was said)")
            state = self._model.hidden_state([shown.before, shown.after], asked, _REWARD_TOKEN)
            ratings[dimension] = _rating(*head(state))
        return ratings


def _rating(mean: float, sigma: float) -> Rating:
    low, high = (float(norm.cdf(mean + sign * sigma)) for sign in (-1, 1))
    return Rating(100 * float(norm.cdf(mean)), 50 * (high - low))


def read_heads(folder: Path) -> tuple[RewardHead, RewardHead]:
    """The heads `rm_heads.head_0` and `head_1` of the safetensors files of a folder; one `rm_head` serves both.

    Raises:
        InvalidInput: the folder has neither, or one that does not give two numbers.
    """
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if name.startswith(("rm_head.", "rm_heads."))]  # noqa: SIM118
            found |= {name: opened.get_tensor(name).float() for name in names}
    one = _head(found, "rm_head.")
    heads = [_head(found, f"rm_heads.head_{number}.") or one for number in (0, 1)]
    if heads[0] is None or heads[1] is None:
        raise InvalidInput(f"{folder} has no reward head that gives a mean and a deviation")
    return heads[0], heads[1]


def _head(tensors: Mapping[str, Tensor], prefix: str) -> RewardHead | None:
    places = sorted(
        int(name.removeprefix(prefix).partition(".")[0])
        for name in tensors
        if name.startswith(prefix) and name.endswith("weight")
    )
    if not places:
        return None
    layers = []
    for place in places:
        weight = tensors[f"{prefix}{place}.weight"]
        layers.append((weight, tensors.get(f"{prefix}{place}.bias", torch.zeros(len(weight)))))
    return RewardHead(layers) if len(layers[-1][0]) == 2 else None


def open_editreward(weights: str, options: LoadOptions = AS_IT_IS) -> JudgeCritic:
    """The judge of a folder: a multimodal model with reward heads beside its weights."""
    folder = Path(weights)
    if not folder.is_dir():
        raise InvalidInput(f"{weights} is no folder; download the model and name where it lies")
    return JudgeCritic(EditReward(open_model(weights, options), read_heads(folder)))
