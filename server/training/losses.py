"""What each stage learns. Orders are asked for within one content only; between contents none is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from editcritic.server.critics.network.model import MAP_STRIDE, EditOutput
from editcritic.server.training.batches import LabelledBatch
from editcritic.server.training.pairs import GROUP_SIZE

__all__ = ["defect_losses", "grounding_loss", "listwise_loss", "ranking_loss", "score_losses", "triplet_loss"]

_MARGIN = 0.2
_CLEAN_TARGET = 0.95
_SEVERE_TARGET = 0.05
_LEAST_PRESENCE = 0.4
_RARE = 4.0
"""Weight of a fault that is there: each kind is in one candidate of thirty."""


def triplet_loss(output: EditOutput, batch: LabelledBatch) -> Tensor:
    """The milder fault lies nearer to the clean answer than the graver one does.

    Source: ordered triplets of one content, TRIQA (2025); the margin is ours.
    """
    each = _grouped(F.normalize(output.embedding, dim=-1))
    mild, severe = ((each[:, 0] - each[:, i]).norm(dim=-1) for i in (1, 2))
    known = _same_fault(batch)
    return (F.relu(_MARGIN + mild - severe) * known).sum() / known.sum().clamp_min(1)


def grounding_loss(output: EditOutput, batch: LabelledBatch) -> Tensor:
    """Where the edit is, whether the mask was told or not: cross-entropy and Dice.

    Source: the first stage of EPAIQA (2025), as a map in place of coordinates.
    """
    inside = F.avg_pool2d(batch.regions[:, :2].sum(1, keepdim=True).float() / 255, MAP_STRIDE)
    truth = inside.repeat_interleave(GROUP_SIZE, 0)
    return (
        F.binary_cross_entropy_with_logits(output.edited, truth)
        + _dice(output.edited[:, 0], truth[:, 0]).mean()
    )


def ranking_loss(output: EditOutput, batch: LabelledBatch) -> Tensor:
    """Probability of the wrong order of two Gaussians, over all pairs of known order, for every score touched.

    Source: the uncertainty-aware ranking of EditReward (2025), in closed form: P(a > b) is the normal
    distribution at the difference of means over the root of the summed variances.
    """
    mean, variance = (_grouped(x) for x in (output.mean, output.log_variance.exp()))  # (G, n, 4)
    difference = mean[:, :, None] - mean[:, None]
    spread = (variance[:, :, None] + variance[:, None] + 1e-4).sqrt()
    known = _orders(batch)
    losses: Tensor = -torch.special.log_ndtr((difference / spread).clamp(-12, 12))
    return (losses * known).sum() / known.sum().clamp_min(1)


def listwise_loss(output: EditOutput, batch: LabelledBatch) -> Tensor:
    """Likelihood of clean before mild before severe (Plackett-Luce; ListMLE, Xia et al. 2008), every score touched."""
    mean = _grouped(output.mean)[:, :3]
    rest = torch.logcumsumexp(mean.flip(1), 1).flip(1)
    known = _grouped(batch.touched)[:, 1] * _same_fault(batch)[:, None]
    loss: Tensor = ((rest - mean).sum(1) * known).sum() / known.sum().clamp_min(1)
    return loss


def score_losses(output: EditOutput, batch: LabelledBatch) -> Tensor:
    """Ties ranks to a scale: clean answers high, touched scores lower with severity, untouched ones as clean."""
    severity = batch.severity[:, None] * batch.touched
    worst = torch.where(
        severity > 0, _CLEAN_TARGET - 0.1 - (_CLEAN_TARGET - 0.1 - _SEVERE_TARGET) * severity, 0
    )
    target = torch.where(severity > 0, worst, _CLEAN_TARGET)
    loss = F.binary_cross_entropy_with_logits(output.mean, target, reduction="none")
    floor = F.binary_cross_entropy(target, target, reduction="none")
    return ((loss - floor) * batch.told).sum() / batch.told.sum().clamp_min(1)


def defect_losses(output: EditOutput, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """What is wrong and where: (severity of each kind, map of each kind). Kinds that would not be wrong are free."""
    presence = batch.kind * (_LEAST_PRESENCE + (1 - _LEAST_PRESENCE) * batch.severity[:, None])
    asked = 1 - batch.open
    kinds = F.binary_cross_entropy_with_logits(
        output.kinds, presence, reduction="none", weight=asked * (1 + (_RARE - 1) * batch.kind)
    )
    truth = batch.kind[..., None, None] * batch.injured[:, None]
    cells = F.binary_cross_entropy_with_logits(
        output.maps, truth, reduction="none", weight=asked[..., None, None] * (1 + (_RARE - 1) * truth)
    )
    faulty = batch.kind.any(dim=1)
    own = (output.maps * batch.kind[..., None, None]).sum(1)
    dice = _dice(own, batch.injured)
    maps = cells.sum(1).mean() + (dice * faulty).sum() / faulty.sum().clamp_min(1)
    return kinds.sum(1).mean(), maps


def _dice(logits: Tensor, truth: Tensor) -> Tensor:
    found = torch.sigmoid(logits)
    return 1 - (2 * (found * truth).sum((-2, -1)) + 1) / (found.sum((-2, -1)) + truth.sum((-2, -1)) + 1)


def _grouped(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, GROUP_SIZE, *tensor.shape[1:])


def _same_fault(batch: LabelledBatch) -> Tensor:
    """(G,) 1 where candidates 1 and 2 have the same fault."""
    injection = _grouped(batch.injection)
    return ((injection[:, 1] == injection[:, 2]) & (injection[:, 1] >= 0)).float()


def _orders(batch: LabelledBatch) -> Tensor:
    """(G, n, n, 4) 1 where the first candidate is known to be better than the second on that score."""
    injection, severity, touched = (_grouped(x) for x in (batch.injection, batch.severity, batch.touched))
    clean = injection < 0
    from_clean = clean[:, :, None] & ~clean[:, None]
    milder = (injection[:, :, None] == injection[:, None]) & (severity[:, :, None] < severity[:, None])
    return (from_clean | (milder & ~clean[:, :, None]))[..., None] * touched[:, None]
