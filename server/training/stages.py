"""The training stages of the shipped network, in the order in which they run.

Each stage adds what it is for to what the stages before it learned, so nothing is forgotten:

0. `triplets`: the embedding orders severities of one content (TRIQA).
1. `grounding`: the edited region, with and without the mask (EPAIQA's first stage).
2. `scoring`: means and variances in the right order within one content; listwise; tied to a scale.
3. `defects`: severity and map of each kind, from which explanations are written.

Stage 4, calibration from verdicts, trains no network: `editcritic.server.training.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from editcritic.server.critics.network.model import EditOutput
from editcritic.server.training.batches import LabelledBatch
from editcritic.server.training.losses import (
    defect_losses,
    grounding_loss,
    listwise_loss,
    ranking_loss,
    score_losses,
    triplet_loss,
)

__all__ = ["STAGES", "Stage", "stage_losses"]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage.
        side: of the windows, in pixels; a multiple of 32.
        steps: batches.
        groups: groups in a batch.
        rate: highest learning rate.
        weights: of each loss.
    """

    name: str
    side: int
    steps: int
    groups: int
    rate: float
    weights: Mapping[str, float]

    def shortened(self, steps: int) -> Stage:
        """The same stage with another number of steps."""
        return replace(self, steps=steps)


_ALL = {
    "triplet": 0.2,
    "grounding": 0.5,
    "ranking": 1.0,
    "listwise": 0.2,
    "score": 1.0,
    "kinds": 0.5,
    "maps": 1.0,
}
STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("triplets", 192, 60, 6, 8e-4, {"triplet": 1.0}),
        Stage("grounding", 192, 80, 6, 8e-4, {"triplet": 0.5, "grounding": 1.0}),
        Stage("scoring", 192, 160, 6, 8e-4, {k: _ALL[k] for k in list(_ALL)[:5]}),
        Stage("defects", 192, 8100, 6, 1e-3, _ALL),
        Stage("refine", 256, 900, 6, 3e-4, _ALL),
    )
}
"""By name, in order. The last one shows the network the size at which it will work."""


def stage_losses(stage: Stage, output: EditOutput, batch: LabelledBatch) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and each part as a number."""
    makers = {
        "triplet": triplet_loss,
        "grounding": grounding_loss,
        "ranking": ranking_loss,
        "listwise": listwise_loss,
        "score": score_losses,
    }
    parts = {name: make(output, batch) for name, make in makers.items() if name in stage.weights}
    if "kinds" in stage.weights:
        parts["kinds"], parts["maps"] = defect_losses(output, batch)
    total = sum((stage.weights[name] * part for name, part in parts.items()), output.mean.new_zeros(()))
    return total, {name: float(part.detach()) for name, part in parts.items()}
