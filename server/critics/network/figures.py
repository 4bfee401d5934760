"""Measured evidence as the network reads it: figures of each region against what the photograph does elsewhere.

A short form of the `evidence` critic's families that costs a few milliseconds: brightness, two colour axes, steps
on a grid, the change against the source, fine, middle and coarse detail, and three marks (flat runs, block grid,
copies), each as means over core, rim, ring and outside and as differences in units of the outside's own spread.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from editcritic.server.critics.network.marks import MARKS, measure_marks

__all__ = [
    "FAMILIES",
    "FIGURES",
    "STANDARDISED",
    "Planes",
    "border_steps",
    "measure_figures",
    "measure_planes",
    "standardise",
]

FAMILIES = 8 + len(MARKS)
FIGURES = 14
"""Figures of each family."""
STANDARDISED = 3 * FAMILIES
_WINDOW = 7
_FLOOR = 0.02
_MAX_Z = 8.0


class Planes(NamedTuple):
    """Dense measurements.

    Attributes:
        tones: (B, 5, S / 2, S / 2); brightness, two colour axes, steps on a grid, change against the source.
        details: (B, 6, S / 4, S / 4); logarithms of fine, middle and coarse energy, and the marks.
    """

    tones: Tensor
    details: Tensor


def measure_planes(candidate: Tensor, source: Tensor, inside: Tensor) -> Planes:
    """Dense measurements.

    Args:
        candidate, source: (B, 3, S, S) in [-1, 1].
        inside: (B, 1, S, S) in [0, 1]; 0 everywhere where the mask is not known.
    """
    luma = candidate.mean(1, keepdim=True)
    change = _halved((candidate - source).abs().mean(1, keepdim=True))
    details = torch.cat([_details(luma), measure_marks(luma, inside)], 1)
    return Planes(torch.cat([_tones(candidate, luma), change], 1), details)


def measure_figures(planes: Planes, regions: Tensor, steps: Tensor | None = None) -> Tensor:
    """(B, 11 families, 14 figures) float32, each about within -8..8.

    Args:
        planes: of the candidates.
        regions: (B, 4, S / 2, S / 2) in [0, 1]: core, rim, ring, outside.
        steps: of `standardise`, where it was told the same regions.
    """
    quarter = _halved(regions)
    if steps is None:
        steps = border_steps(torch.cat([_halved(planes.tones), planes.details], 1), quarter)
    figures = torch.cat([_figures(planes.tones, regions, 16), _figures(planes.details, quarter, 8)], 1)
    return torch.cat([figures, _along_border(steps, quarter, figures[..., 4])], -1)


def standardise(planes: Planes, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Planes against the ring, the outside, and across the border, in the outside's spreads.

    Args:
        planes: of the candidates.
        regions: (B, 4, S / 2, S / 2); where nothing is known of the mask, all of it is outside.

    Returns:
        (B, 33, S / 4, S / 4), and the bare steps across the border, (B, 11, S / 4, S / 4).
    """
    all_planes = torch.cat([_halved(planes.tones), planes.details], 1)
    quarter = _halved(regions)
    spread = _outside_spread(all_planes, quarter[:, 2:].sum(1, keepdim=True), 8)[..., None, None] + _FLOOR
    nearby = torch.stack([quarter[:, 2] + 1e-3 * quarter[:, 3], quarter[:, 2:].sum(1)], 1).flatten(2)
    shares = nearby.sum(-1).clamp_min(1e-3)
    means = all_planes.flatten(2) @ nearby.transpose(1, 2) / shares[:, None]
    steps = border_steps(all_planes, quarter)
    found = [(all_planes - means[..., i, None, None]) / spread for i in range(2)]
    found.append(steps / spread)
    return torch.cat(found, 1).clamp(-_MAX_Z, _MAX_Z) / 2, steps


def border_steps(planes: Tensor, regions: Tensor) -> Tensor:
    """How each plane steps across the mask's border, seen along it: (B, F, h, w), 0 away from the border.

    At every place near the border, the mean of the rim less that of the ring within a window. In an untouched
    photograph the steps change sign along the border; a shift of the inside steps everywhere to one side.

    Args:
        planes: (B, F, h, w).
        regions: (B, 4, h, w), of the same size.
    """
    rim, ring = regions[:, 1:2], regions[:, 2:3]
    sides = [_window_mean(planes * part) / _window_mean(part).clamp_min(1e-3) for part in (rim, ring)]
    near = (_window_mean(rim) > 0.02) & (_window_mean(ring) > 0.02) & (rim + ring > 0)
    return (sides[0] - sides[1]) * near


def _window_mean(plane: Tensor) -> Tensor:
    across = F.avg_pool2d(plane, (1, _WINDOW), 1, (0, _WINDOW // 2))
    return F.avg_pool2d(across, (_WINDOW, 1), 1, (_WINDOW // 2, 0))


def _figures(planes: Tensor, regions: Tensor, block: int) -> Tensor:
    """(B, F, 8) of planes (B, F, h, w)."""
    weights = regions.flatten(2)
    shares = weights.sum(-1).clamp_min(1.0)
    means = planes.flatten(2) @ weights.transpose(1, 2) / shares[:, None]
    spread = _outside_spread(planes, regions[:, 2:].sum(1, keepdim=True), block)
    core, rim, ring, outside = means.unbind(-1)
    around = (means[..., 2:] * shares[:, None, 2:]).sum(-1) / shares[:, None, 2:].sum(-1)
    steps = [rim - ring, core - around, core - rim]
    scaled = [(step / (spread + _FLOOR)).clamp(-_MAX_Z, _MAX_Z) for step in steps]
    return torch.stack([core, rim, ring, outside, spread, *scaled], -1)


def _along_border(steps: Tensor, regions: Tensor, spread: Tensor) -> Tensor:
    """Of the steps along the border: mean, mean size, spread, agreement, slope and how much it explains, (B, F, 6)."""
    weights = regions[:, 1:3].sum(1, keepdim=True) * (steps[:, :1] != 0)
    total = weights.sum((2, 3)).clamp_min(1e-3)
    mean = (steps * weights).sum((2, 3)) / total
    size = (steps.abs() * weights).sum((2, 3)) / total
    varied = ((steps - mean[..., None, None]).square() * weights).sum((2, 3)) / total
    scale = spread + _FLOOR
    agreement = mean / (varied + 1e-4).sqrt()
    sloped = _explained_by_slope(steps - mean[..., None, None], weights / total[..., None, None])
    found = [mean / scale, size / scale, (varied + 1e-6).sqrt() / scale, agreement]
    found += [(sloped + 1e-6).sqrt() / scale, 4 * sloped / (varied + 1e-4)]
    return torch.stack(found, -1).clamp(-_MAX_Z, _MAX_Z)


def _explained_by_slope(steps: Tensor, shares: Tensor) -> Tensor:
    """Variance of steps (B, F, h, w) that a plane through them explains, (B, F): light from another side.

    Args:
        shares: (B, 1, h, w); sum 1.
    """
    height, width = steps.shape[2:]
    down = torch.linspace(-1, 1, height, device=steps.device)[:, None].expand(height, width)
    across = torch.linspace(-1, 1, width, device=steps.device).expand(height, width)
    places = torch.stack([down, across])[None]  # (1, 2, h, w)
    places = places - (places * shares).sum((2, 3), keepdim=True)
    flat, weighted = places.flatten(2), (places * shares).flatten(2)  # (B, 2, N)
    scatter = weighted @ flat.mT + 1e-3 * torch.eye(2, device=steps.device)
    along = steps.flatten(2) @ weighted.mT  # (B, F, 2)
    slope: Tensor = torch.linalg.solve(scatter, along.mT).mT
    return (slope * along).sum(-1).clamp_min(0)


def _tones(candidate: Tensor, luma: Tensor) -> Tensor:
    """Brightness, two colour axes and steps on a grid, (B, 4, S / 2, S / 2)."""
    red, green, blue = _halved(candidate).chunk(3, dim=1)
    return torch.cat([(red + green + blue) / 3, red - green, (red + green) / 2 - blue, _grid(luma)], 1)


def _details(luma: Tensor) -> Tensor:
    """Logarithms of fine, middle and coarse energy, (B, 3, S / 4, S / 4)."""
    half = _halved(luma)
    quarter = _halved(half)
    fine, middle, coarse = (plane - _smooth(plane) for plane in (luma, half, quarter))
    energies = [_halved(_halved(fine.square())), _halved(middle.square()), coarse.square()]
    return torch.log(torch.cat(energies, 1) + 1e-5) / 3


def _grid(luma: Tensor) -> Tensor:
    """Steps between columns in excess of those beside them, averaged down a column of 8: blocks have them."""
    step = F.pad((luma[..., 1:] - luma[..., :-1]).abs(), (0, 1))
    down = F.avg_pool2d(step, (8, 1), (2, 1), (3, 0))
    usual = F.avg_pool2d(down, (1, 7), 1, (0, 3))
    return 4 * F.max_pool2d((down - usual).clamp_min(0), (1, 2))


def _halved(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane, 2)


def _smooth(plane: Tensor) -> Tensor:
    return F.avg_pool2d(plane, 3, 1, 1, count_include_pad=False)


def _outside_spread(planes: Tensor, outside: Tensor, block: int) -> Tensor:
    """Standard deviation of the means of blocks outside, (B, F)."""
    weight = F.avg_pool2d(outside, block)
    means = F.avg_pool2d(planes * outside, block) / weight.clamp_min(1e-3)
    sure = (weight > 0.5).to(means.dtype)
    count = sure.sum((2, 3)).clamp_min(1.0)
    middle = (means * sure).sum((2, 3)) / count
    variance = ((means - middle[..., None, None]).square() * sure).sum((2, 3)) / count
    return (variance + 1e-6).sqrt()
