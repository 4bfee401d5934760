"""Adapting the network to a new generator without a label.

Half of every batch are the generator's own answers, of which only the order is known; the other half are injected
faults as before, so that what the network knows is not lost (rehearsal).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from editcritic.server.critics.network.model import SCORES, EditNetwork
from editcritic.server.training.batches import collate, to_input
from editcritic.server.training.engine_pairs import EngineAnswers, as_group
from editcritic.server.training.losses import listwise_loss, ranking_loss
from editcritic.server.training.pairs import Group, PairSource, Photographs
from editcritic.server.training.stages import STAGES, stage_losses
from editcritic.v1.errors import InvalidInput

__all__ = ["adapt_network", "order_accuracy"]

_RATE, _DECAY, _HALF = 1e-4, 0.02, 3
_LEAST_GROUPS = 8
_REPORT_STEPS = 10
_VISUAL = SCORES.index("visual_quality")


def adapt_network(
    network: EditNetwork,
    answers: Sequence[EngineAnswers],
    photographs: Photographs,
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> EditNetwork:
    """Go on training on an engine's answers; batch statistics stay as they are. `told` gets (step, loss).

    Raises:
        InvalidInput: there are too few answers to learn from.
    """
    groups = [group for each in answers if (group := as_group(each)) is not None]
    if len(groups) < _LEAST_GROUPS:
        raise InvalidInput(
            f"{len(groups)} edits are too few to adapt to; at least {_LEAST_GROUPS} are needed"
        )
    stage = list(STAGES.values())[-1]
    rehearsal = PairSource(photographs, stage.side, seed + 77)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = np.random.default_rng(seed)
    network.eval()
    for step in range(steps):
        chosen = [groups[i] for i in rng.integers(0, len(groups), _HALF)]
        known = [rehearsal.group(step * _HALF + i) for i in range(_HALF)]
        loss = _order_loss(network, chosen)
        batch = collate(known)
        rehearsed, _ = stage_losses(stage, network(to_input(batch)), batch)
        optimiser.zero_grad(set_to_none=True)
        (loss + rehearsed).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if told is not None and (step + 1) % _REPORT_STEPS == 0:
            told(step + 1, float(loss.detach()))
    return network


@torch.no_grad()
def order_accuracy(network: EditNetwork, answers: Sequence[EngineAnswers]) -> tuple[float, int]:
    """Share of an engine's pairs whose order by visual quality is right, and how many pairs there were."""
    network.eval()
    hits = []
    for each in answers:
        group = as_group(each)
        if group is None:
            continue
        means = network(to_input(collate([group]))).mean[:, _VISUAL].tolist()
        hits += [means[i] > means[j] for i in range(len(means)) for j in range(i + 1, len(means))]
    return (float(np.mean(hits)) if hits else float("nan")), len(hits)


def _order_loss(network: EditNetwork, groups: Sequence[Group]) -> torch.Tensor:
    batch = collate(groups)
    output = network(to_input(batch))
    return ranking_loss(output, batch) + 0.2 * listwise_loss(output, batch)
