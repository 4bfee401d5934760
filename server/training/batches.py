"""Groups as batches of tensors, with everything that the losses ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editcritic.server.critics.network.model import KINDS, MAP_STRIDE, SCORES, EditInput
from editcritic.server.training.defects import INJECTIONS
from editcritic.server.training.pairs import GROUP_SIZE, Group
from editcritic.v1 import critic_pb2 as pb

__all__ = ["ENGINE", "FaultLabels", "LabelledBatch", "collate", "labels_of", "to_input"]

_SCORE_OF = {
    pb.DIMENSION_NATURALNESS: 0,
    pb.DIMENSION_HARMONY: 1,
    pb.DIMENSION_PRESERVATION: 2,
}
_VISUAL = SCORES.index("visual_quality")
ENGINE = "engine"
"""Name of what an engine made: ordered by severity among themselves, nothing else is known of them."""


@dataclass
class LabelledBatch:
    """G groups of n candidates, flattened to B = G * n; pictures stay uint8 until they are used.

    Attributes:
        candidate: (B, 3, S, S) uint8. source: (G, 3, S, S) uint8. alpha: (G, 1, S, S) uint8.
        regions: (G, 4, S, S) uint8. whole: (B, 3, 96, 96) uint8. whole_alpha: (G, 1, 96, 96) uint8.
        progress, mask_known: (G,) float32.
        injured: (B, S / 4, S / 4) float32; share of each cell that is injured.
        injection: (B,) int64; index into `INJECTIONS`, -1 for a clean candidate.
        severity: (B,) float32; 0 for a clean candidate.
        kind: (B, K) float32; 1 for the kind that names the fault best, else 0.
        open: (B, K) float32; 1 for other kinds that would not be wrong.
        touched: (B, 4) float32; 1 for the scores that the fault lowers.
        told: (B, 4) float32; 1 for the scores that are known at all.
    """

    candidate: Tensor
    source: Tensor
    alpha: Tensor
    regions: Tensor
    whole: Tensor
    whole_alpha: Tensor
    progress: Tensor
    mask_known: Tensor
    injured: Tensor
    injection: Tensor
    severity: Tensor
    kind: Tensor
    open: Tensor
    touched: Tensor
    told: Tensor

    def to(self, device: torch.device) -> LabelledBatch:
        """The batch on a device."""
        moved = {each.name: getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)}
        return LabelledBatch(**moved)


class FaultLabels(NamedTuple):
    """What is known of a candidate from the name of its fault.

    Attributes:
        kind, open: (K,); the kind that names it best, and others that would not be wrong.
        touched, told: (4,); scores that fall, and scores that are known at all.
    """

    kind: Tensor
    open: Tensor
    touched: Tensor
    told: Tensor


def collate(groups: Sequence[Group]) -> LabelledBatch:
    """Stack groups of one size."""
    injected = [name for group in groups for name in group.injected]
    names = [*INJECTIONS, ENGINE]
    labels = [labels_of(name) for name in injected]
    injured = torch.from_numpy(np.concatenate([group.injured for group in groups]).astype(np.float32))
    return LabelledBatch(
        candidate=_pictures(np.concatenate([group.candidates for group in groups])),
        source=_pictures(np.stack([group.source for group in groups])),
        alpha=_bytes(np.stack([group.alpha for group in groups]))[:, None],
        regions=_bytes(np.stack([group.regions for group in groups])),
        whole=_pictures(np.concatenate([group.whole for group in groups])),
        whole_alpha=_bytes(np.stack([group.whole_alpha for group in groups]))[:, None],
        progress=torch.tensor([group.progress for group in groups], dtype=torch.float32),
        mask_known=torch.tensor([group.mask_known for group in groups], dtype=torch.float32),
        injured=F.avg_pool2d(injured[:, None], MAP_STRIDE)[:, 0],
        injection=torch.tensor([names.index(name) if name else -1 for name in injected]),
        severity=torch.from_numpy(np.concatenate([group.severities for group in groups])),
        kind=torch.stack([label.kind for label in labels]),
        open=torch.stack([label.open for label in labels]),
        touched=torch.stack([label.touched for label in labels]),
        told=torch.stack([label.told for label in labels]),
    )


def to_input(batch: LabelledBatch, per_group: int = GROUP_SIZE) -> EditInput:
    """What the network is given: B candidates, each with its group's edit."""

    def repeated(tensor: Tensor) -> Tensor:
        return tensor.repeat_interleave(per_group, 0)

    known = batch.mask_known[:, None, None, None]
    return EditInput(
        candidate=batch.candidate.float() / 127.5 - 1,
        source=repeated(batch.source.float() / 127.5 - 1),
        alpha=repeated(batch.alpha.float() / 255 * known),
        regions=repeated(batch.regions.float() / 255),
        whole=batch.whole.float() / 127.5 - 1,
        whole_alpha=repeated(batch.whole_alpha.float() / 255 * known),
        progress=repeated(batch.progress),
        mask_known=repeated(batch.mask_known),
    )


def labels_of(name: str) -> FaultLabels:
    """Labels of an injection by name; of a clean candidate for an empty name."""
    kind, open_kinds = torch.zeros(len(KINDS)), torch.zeros(len(KINDS))
    touched, told = torch.zeros(len(SCORES)), torch.ones(len(SCORES))
    if not name:
        return FaultLabels(kind, open_kinds, touched, told)
    if name == ENGINE:
        touched[[_SCORE_OF[pb.DIMENSION_NATURALNESS], _SCORE_OF[pb.DIMENSION_HARMONY], _VISUAL]] = 1
        return FaultLabels(kind, open_kinds + 1, touched, told * 0)
    injection = INJECTIONS[name]
    kind[KINDS.index(injection.kinds[0])] = 1
    for other in injection.kinds[1:]:
        open_kinds[KINDS.index(other)] = 1
    for dimension in (injection.dimension, injection.also):
        if dimension in _SCORE_OF:
            touched[[_SCORE_OF[dimension], _VISUAL]] = 1
    if not touched.any():
        # A copy of the source may look perfect or pasted: no claim about its looks.
        told[:] = 0
    return FaultLabels(kind, open_kinds, touched, told)


def _pictures(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def _bytes(planes: np.ndarray) -> Tensor:
    return torch.from_numpy(np.round(planes * 255).astype(np.uint8))
