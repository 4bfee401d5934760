"""ELIQ's head on a frozen multimodal model: learned queries over what it saw, a gate, two numbers with their doubt.

A few hundred thousand weights over hidden states; it is trained in minutes once the states are there, without a
label (`editcritic train head`), and lies in a folder of its own that names the model it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy.stats import norm
from torch import Tensor, nn

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.queries import QUERIES, GatedFusion, QualityQueries
from editcritic.server.critics.network.runner import Look, NetworkRunner
from editcritic.server.critics.network.view import look_at, view_edit
from editcritic.v1.errors import InvalidInput

__all__ = [
    "HEAD_FILE",
    "HEAD_QUESTION",
    "HeadReading",
    "QualityHead",
    "load_head",
    "network_features",
    "read_head",
    "save_head",
]

HEAD_FILE = "quality_head.safetensors"
HEAD_QUESTION = (
    "Picture 1 is a part of a photograph before an edit, picture 2 after it, picture 3 is picture 2 with the edited"
    " region outlined. The edit was asked for with the words between the lines.\n---\n{prompt}\n---\nHow good is the"
    " edit?"
)
_TOKEN, _WIDTH = 160, 192
_MAX_LOG_VARIANCE = 4.0


class QualityHead(nn.Module):
    """Hidden states -> (mean, log-variance) of visual quality and of prompt alignment.

    Sources: ELIQ (2026): frozen backbone, quality query transformer, gated fusion, two-dimensional quality;
    MA-AGIQA (2024): a multimodal model's view beside the features of a small quality network. Widths are ours.

    Args:
        hidden: D, width of the model's hidden states.
        features: F, width of the features of a quality network that stand beside them; 0 for none.
    """

    def __init__(self, hidden: int, features: int = 0) -> None:
        super().__init__()
        self.features = features
        self.norm, self.project = nn.LayerNorm(hidden), nn.Linear(hidden, _TOKEN)
        self.queries = QualityQueries(_TOKEN)
        self.fusion = GatedFusion(_TOKEN, QUERIES * _TOKEN + features, _WIDTH)
        self.score = nn.Linear(_WIDTH, 4)

    def forward(self, states: Tensor, seen: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log-variances, (2,) each.

        Args:
            states: (T, D) float32.
            seen: (T,) bool; states of pictures. The last state of all is what the model makes of the question.
            features: (F,) float32, where the head was made for some.
        """
        tokens = self.project(self.norm(states))
        visual = self.queries(tokens[seen][None]).flatten(1)
        if features is not None:
            visual = torch.cat([visual, features[None]], 1)
        mean, log_variance = self.score(self.fusion(tokens[-1:], visual))[0].chunk(2)
        return mean, _MAX_LOG_VARIANCE * torch.tanh(log_variance / _MAX_LOG_VARIANCE)


@dataclass(frozen=True)
class HeadReading:
    """Value and standard deviation, both in 0..100."""

    value: float
    stddev: float


def network_features(network: NetworkRunner, edit: DecodedEdit, image: NDArray[np.uint8]) -> Tensor:
    """What the quality network reads its scores from, (F,) float32.

    Args:
        image: (H, W, 3) uint8.
    """
    view = view_edit(edit)
    output = network(Look(view, *look_at(view, image)))
    # A copy, as what inference mode made cannot be learned from.
    return torch.tensor(output.embedding[0].cpu().numpy())


def read_head(mean: Tensor, log_variance: Tensor) -> tuple[HeadReading, HeadReading]:
    """Visual quality and prompt alignment: 100 times the normal distribution at the mean."""
    readings = []
    for middle, spread in zip(mean.tolist(), (log_variance / 2).exp().tolist(), strict=True):
        low, high = (float(norm.cdf(middle + sign * spread)) for sign in (-1, 1))
        readings.append(HeadReading(100 * float(norm.cdf(middle)), 50 * (high - low)))
    return readings[0], readings[1]


def save_head(head: QualityHead, model: str, folder: Path) -> None:
    """Write the head's folder.

    Args:
        model: folder or hub id of the model that it belongs to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / HEAD_FILE, {"model": model})


def load_head(folder: Path) -> tuple[QualityHead, str]:
    """The head of a folder, and the model that it belongs to.

    Raises:
        InvalidInput: the file is missing, broken, or of something else.
    """
    try:
        with safe_open(folder / HEAD_FILE, "pt") as opened:
            model = opened.metadata()["model"]
            weights = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        beside = weights["fusion.visual.weight"].shape[1] - QUERIES * _TOKEN
        head = QualityHead(weights["norm.weight"].numel(), beside)
        head.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise InvalidInput(f"{folder / HEAD_FILE} is no quality head: {error}") from error
    return head.eval(), model
