"""The shipped network: one page from pixels to scores.

    window of candidate and source, mask        whole candidate, mask       how far denoising has come
                 |                                       |                              |
          encoder (4 levels)                       small encoder                        |
           |              |                              |                              |
    decoder: a map     pooled in core, rim, ring, outside; cells; measured figures  -> tokens
    per kind, and          |
    the edited region   quality queries attend to the tokens -> visual stream
                        deepest features, pooled              -> semantic stream
                                  gate mixes the two -> (mean, log-variance) per score, severity per kind

Sources of the parts, each at its class: EPAIQA (grounding), ELIQ (quality queries, gated fusion), SEAGULL
(mask pooling), EditReward (mean and log-variance), PAL4VST and RAHF (maps). What those papers do not publish,
layer counts and widths above all, is ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editcritic.server.critics.network.figures import (
    FAMILIES,
    FIGURES,
    STANDARDISED,
    Planes,
    measure_figures,
    measure_planes,
    standardise,
)
from editcritic.server.critics.network.queries import QUERIES, GatedFusion, QualityQueries
from editcritic.v1 import critic_pb2 as pb

__all__ = ["KINDS", "MAP_STRIDE", "SCORES", "EditInput", "EditNetwork", "EditOutput"]

KINDS: tuple[int, ...] = tuple(
    number
    for number in pb.DefectKind.values()
    if number not in (pb.DEFECT_KIND_UNSPECIFIED, pb.DEFECT_KIND_PROMPT_MISMATCH)
)
"""Kinds of defect, in the order of the outputs."""
SCORES = ("naturalness", "harmony", "preservation", "visual_quality")
MAP_STRIDE = 4
_WIDTHS = (32, 64, 112, 192)
_TOKEN = 160
_CLIP = 0.2
_MAX_LOG_VARIANCE = 4.0


class EditInput(NamedTuple):
    """A batch; S is a multiple of 32.

    Attributes:
        candidate, source: (B, 3, S, S) float32 in [-1, 1].
        alpha: (B, 1, S, S) float32 in [0, 1]; zero everywhere when the mask is not known.
        regions: (B, 4, S, S) float32 in {0, 1}: core, rim, ring, outside.
        whole: (B, 3, 96, 96) float32 in [-1, 1].
        whole_alpha: (B, 1, 96, 96) float32 in [0, 1]; zero when the mask is not known.
        progress: (B,) float32 in [0, 1]; 1 for a finished candidate.
        mask_known: (B,) float32 in {0, 1}; where it is 0, the network pools in the region that it found.
    """

    candidate: Tensor
    source: Tensor
    alpha: Tensor
    regions: Tensor
    whole: Tensor
    whole_alpha: Tensor
    progress: Tensor
    mask_known: Tensor


@dataclass(frozen=True, eq=False)
class EditOutput:
    """What the network says; K kinds, 4 scores.

    Attributes:
        mean, log_variance: (B, 4); higher means are better, without a unit until calibrated.
        kinds: (B, K) logits of each kind's severity.
        maps: (B, K, S / 4, S / 4) logits of each kind in each place.
        edited: (B, 1, S / 4, S / 4) logits of "this was edited".
        embedding: (B, D); what the scores are read from.
        figures: (B, families, figures); measured evidence as the network read it.
    """

    mean: Tensor
    log_variance: Tensor
    kinds: Tensor
    maps: Tensor
    edited: Tensor
    embedding: Tensor
    figures: Tensor


def _convolution(inside: int, outside: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, stride, (size - 1) // 2, bias=False), nn.BatchNorm2d(outside)
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(width, width), _convolution(width, width)
        # Starting as the identity lets the deeper levels learn from the first step.
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class _SelfSimilarity(nn.Module):
    """Adds to every cell how much the most similar cell beyond its neighbourhood resembles it.

    Source: self-correlation of copy-move forensics (BusterNet, Wu et al. 2018).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.describe = nn.Conv2d(width, 32, 1)
        self.tell = nn.Conv2d(1, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        described = F.normalize(self.describe(x).flatten(2).float(), dim=1)  # (B, 32, N)
        with torch.no_grad():
            alike = described.mT @ described  # (B, N, N)
            alike.masked_fill_(_neighbours(x.shape[2], x.shape[3], x.device), -1.0)
        if torch.is_grad_enabled():
            # A gradient through all pairs would cost more than the network.
            place = alike.argmax(-1)[:, None].expand_as(described)
            best = (described * described.gather(2, place)).sum(1)
        else:
            best = alike.amax(-1)
        told: Tensor = self.tell(best.reshape(x.shape[0], 1, *x.shape[2:]).to(x.dtype))
        return x + told


def _neighbours(height: int, width: int, device: torch.device) -> Tensor:
    """(N, N) bool: cells fewer than three steps apart."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    near = [(axis[:, None] - axis).abs() < 3 for axis in (rows, columns)]
    both = near[0][:, None, :, None] & near[1][None, :, None, :]
    return both.reshape(height * width, height * width)


class _Encoder(nn.Module):
    """Four levels at strides 2, 4, 8 and 16; at stride 4 it is also told what was measured there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        stem = nn.Sequential(
            nn.Conv2d(channels, _WIDTHS[0], 4, 2, 1, bias=False), nn.BatchNorm2d(_WIDTHS[0]), nn.ReLU()
        )
        self.first = nn.Sequential(stem, _Residual(_WIDTHS[0]))
        pairs = list(itertools.pairwise(_WIDTHS))
        self.down = nn.ModuleList(_convolution(before, after, stride=2) for before, after in pairs)
        self.measured = _convolution(STANDARDISED, _WIDTHS[1])
        self.repeats = _SelfSimilarity(_WIDTHS[2])
        self.levels = nn.ModuleList(
            nn.Sequential(nn.ReLU(), _Residual(width), _Residual(width)) for width in _WIDTHS[1:]
        )

    def forward(self, x: Tensor, standardised: Tensor) -> list[Tensor]:
        features = [self.first(x)]
        for place, (down, level) in enumerate(zip(self.down, self.levels, strict=True)):
            x = down(features[-1])
            if place == 0:
                x = x + self.measured(standardised)
            x = level(x)
            features.append(self.repeats(x) if place == 1 else x)
        return features


class _Decoder(nn.Module):
    """A map per kind and one of the edited region, at stride 4, from the three deeper levels.

    Source: per-pixel artifact maps (PAL4VST 2023, RAHF 2024); the edited region is EPAIQA's grounding.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in _WIDTHS[1:])
        self.smooth = nn.Sequential(_convolution(width, width), nn.ReLU())
        self.head = nn.Conv2d(width, len(KINDS) + 1, 1)
        nn.init.constant_(self.head.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, features: list[Tensor]) -> Tensor:
        *shallower, deepest = features[1:]
        *sides, last = self.sides
        deep = last(deepest)
        for side, feature in zip(reversed(sides), reversed(shallower), strict=True):
            deep = side(feature) + F.interpolate(deep, scale_factor=2.0, mode="nearest")
        maps: Tensor = self.head(self.smooth(F.relu(deep)))
        return maps


class _WholeView(nn.Module):
    """The whole candidate at low resolution: (B, 4, 96, 96) -> (B, 36, D) tokens."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in [(4, 32), (32, 48), (48, 96), (96, _TOKEN)]:
            layers += [_convolution(before, after, stride=2), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.layers(x).flatten(2).transpose(1, 2)
        return tokens


class _RegionTokens(nn.Module):
    """Each level pooled in core, rim, ring and outside, and its strongest place inside.

    Source: mask-pooled region tokens (SEAGULL 2024). One token compares the regions of a level: a fault of
    harmony is a difference, which attention over separate tokens would have to learn to subtract.
    """

    def __init__(self) -> None:
        super().__init__()
        self.compare = nn.ModuleList(nn.Linear(5 * width, _TOKEN) for width in _WIDTHS)
        self.each = nn.ModuleList(nn.Linear(width, _TOKEN) for width in _WIDTHS)

    def forward(self, features: list[Tensor], regions: list[Tensor]) -> Tensor:
        tokens = []
        for feature, weights, compare, each in zip(features, regions, self.compare, self.each, strict=True):
            pooled = _pool(feature, weights)
            inside = weights[:, :2].sum(1, keepdim=True).to(feature.dtype)
            # Cells first: this keeps the largest level cheap.
            peak = (F.max_pool2d(feature, 4) * F.max_pool2d(inside, 4)).amax((2, 3))
            tokens += [compare(torch.cat([pooled.flatten(1), peak], 1))[:, None], each(pooled)]
        return torch.cat(tokens, 1)


class EditNetwork(nn.Module):
    """`EditNetwork()(EditInput) -> EditOutput`.

    Attributes:
        reduced: run the convolutions in bfloat16; everything after them stays in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reduced = False
        self.encoder, self.decoder = _Encoder(10), _Decoder()
        self.whole, self.regions = _WholeView(), _RegionTokens()
        self.cells = nn.Linear(_WIDTHS[-1] + 4, _TOKEN)
        self.figures = nn.ModuleList(nn.Linear(FIGURES, _TOKEN) for _ in range(FAMILIES))
        self.progress = nn.Sequential(nn.Linear(3, _TOKEN), nn.GELU(), nn.Linear(_TOKEN, _TOKEN))
        self.kinds_of_token = nn.Parameter(torch.randn(5, _TOKEN) * 0.1)
        self.queries = QualityQueries(_TOKEN)
        width = 256
        self.fusion = GatedFusion(3 * _WIDTHS[-1] + _TOKEN, QUERIES * _TOKEN + FAMILIES * FIGURES, width)
        self.score = nn.Linear(width, 2 * len(SCORES))
        self.kind = nn.Linear(width + len(KINDS), len(KINDS))

    def forward(self, given: EditInput) -> EditOutput:
        """Judge a batch."""
        halves = F.avg_pool2d(given.regions, 2)
        measured, standardised, steps = _measure(given, halves)
        features, maps = self._see(given, standardised)
        maps, edited = maps[:, :-1], maps[:, -1:]
        regions = _pyramid(_known_regions(halves, given.mask_known, edited))
        with torch.autocast(given.candidate.device.type, enabled=False):
            figures = measure_figures(measured, regions[0], steps if regions[0] is halves else None)
        tokens = self._tokens(given, features, regions, figures)
        visual = torch.cat([self.queries(tokens).flatten(1), figures.flatten(1)], 1)
        fused = self.fusion(_semantic(features[-1], regions[-1], tokens[:, -37:-1]), visual)
        mean, log_variance = self.score(fused).float().chunk(2, dim=-1)
        kinds = self.kind(torch.cat([fused, _peaks(maps)], -1)).float()
        return EditOutput(
            mean,
            _MAX_LOG_VARIANCE * torch.tanh(log_variance / _MAX_LOG_VARIANCE),
            kinds,
            maps,
            edited,
            fused.float(),
            figures,
        )

    def _see(self, given: EditInput, standardised: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features of the encoder and logits of the maps."""
        if not self.reduced:
            features = self.encoder(_planes(given), standardised)
            return features, self.decoder(features).float()
        with torch.autocast(given.candidate.device.type, torch.bfloat16):
            features = self.encoder(_planes(given), standardised)
            maps = self.decoder(features)
        return [feature.float() for feature in features], maps.float()

    def _tokens(
        self, given: EditInput, features: list[Tensor], regions: list[Tensor], measured: Tensor
    ) -> Tensor:
        pooled = self.regions(features, regions)
        deepest = features[-1]
        cells = torch.cat([deepest, regions[-1].to(deepest.dtype)], 1).flatten(2).transpose(1, 2)
        figures = torch.stack([layer(measured[:, i]) for i, layer in enumerate(self.figures)], 1)
        whole = self.whole(torch.cat([given.whole, given.whole_alpha], 1))
        steps = torch.stack([given.progress, given.progress**2, given.mask_known], -1)
        groups = [pooled, self.cells(cells), figures, whole, self.progress(steps)[:, None]]
        return torch.cat([tokens + kind for tokens, kind in zip(groups, self.kinds_of_token, strict=True)], 1)


def _measure(given: EditInput, halves: Tensor) -> tuple[Planes, Tensor, Tensor]:
    """Dense measurements, the same in units of the outside's spread, and their steps across the mask's border.

    Args:
        halves: the regions, (B, 4, S / 2, S / 2).
    """
    with torch.autocast(given.candidate.device.type, enabled=False):
        known = given.mask_known[:, None, None, None]
        inside = given.regions[:, :2].sum(1, keepdim=True) * known
        planes = measure_planes(given.candidate, given.source, inside)
        nothing = torch.tensor([0.0, 0.0, 0.0, 1.0], device=known.device)[None, :, None, None]
        standardised, steps = standardise(planes, known * halves + (1 - known) * nothing)
    return planes, _as_input(standardised), steps


def _as_input(planes: Tensor) -> Tensor:
    device = planes.device.type
    kept = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return planes.to(dtype=kept, memory_format=torch.channels_last)


def _planes(given: EditInput) -> Tensor:
    """Candidate, source, mask, their difference, and two high-pass residuals of the candidate, (B, 10, S, S).

    Source: residual filters of steganalysis (Fridrich and Kodovsky 2012), which image forensics use to see
    grain and resampling below the picture's content.
    """
    luma = given.candidate.mean(1, keepdim=True)
    near = F.avg_pool2d(F.pad(luma, (1, 1, 1, 1), mode="reflect"), 3, 1)
    wide = F.avg_pool2d(F.avg_pool2d(F.pad(luma, (3, 3, 3, 3), mode="reflect"), (1, 7), 1), (7, 1), 1)
    residuals = [(plane.clamp(-_CLIP, _CLIP) / _CLIP) for plane in (luma - near, near - wide)]
    change = (given.candidate - given.source).abs().mean(1, keepdim=True).clamp(0, 0.5) * 2
    planes = torch.cat([given.candidate, given.source, given.alpha, change, *residuals], 1)
    return _as_input(planes)


def _pool(feature: Tensor, weights: Tensor) -> Tensor:
    """Weighted means over regions: (B, C, h, w) and (B, R, h, w) -> (B, R, C)."""
    rows = feature.permute(0, 2, 3, 1).flatten(1, 2)
    shares = weights / weights.sum((2, 3), keepdim=True).clamp_min(1e-4)
    return shares.flatten(2).to(feature.dtype) @ rows


def _pyramid(halves: Tensor) -> list[Tensor]:
    """The regions at strides 2, 4, 8 and 16."""
    levels = [halves]
    while len(levels) < len(_WIDTHS):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _known_regions(halves: Tensor, mask_known: Tensor, edited: Tensor) -> Tensor:
    """The regions as given; where the mask is not known, those of the region that was found."""
    known = mask_known[:, None, None, None]
    if bool((known == 1).all()):
        return halves
    found = torch.sigmoid(edited.detach())
    inner, outer = -F.max_pool2d(-found, 5, 1, 2), F.max_pool2d(found, 5, 1, 2)
    parts = torch.cat([inner, found - inner, outer - found, 1 - outer], 1)
    guessed = F.interpolate(parts, halves.shape[2:], mode="nearest")
    return known * halves + (1 - known) * guessed


def _semantic(deepest: Tensor, regions: Tensor, whole: Tensor) -> Tensor:
    sides = torch.stack([regions[:, :2].sum(1), regions[:, 2:].sum(1)], 1)
    return torch.cat([_pool(deepest, sides).flatten(1), deepest.mean((2, 3)), whole.mean(1)], -1)


def _peaks(maps: Tensor) -> Tensor:
    """Mean of the strongest hundredth of each map, (B, K)."""
    flat = maps.flatten(2)
    return flat.topk(max(1, flat.shape[-1] // 100), dim=-1).values.mean(-1)
