"""Marks that faults leave whatever the picture shows: flat runs, a block grid, and content that stands twice.

Quantised tones leave runs of equal pixels, compression leaves steps on a grid of eight pixels, and copied content
matches itself pixel by pixel at one lag. A network of this size would have to see far more pictures to learn them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MARKS", "measure_marks"]

MARKS = ("flat", "grid", "copies")
_LEVEL = 2.0 / 255
_BLOCK = 8
_LAGS = 3
_NEAREST_LAG_PX = 10
"""Texture resembles itself within a few pixels; a copy stands farther away."""
_PATCH_PX = 9


@torch.no_grad()
def measure_marks(luma: Tensor, inside: Tensor) -> Tensor:
    """Dense marks in the order of `MARKS`, (B, 3, S / 4, S / 4) float32, each about within 0..1.

    Args:
        luma: (B, 1, S, S) in [-1, 1]; S is a multiple of 8.
        inside: (B, 1, S, S) in [0, 1]; where it is nowhere above 0, the whole picture is meant.
    """
    found = inside.sum((2, 3), keepdim=True) > 0
    weight = torch.where(found, inside, torch.ones_like(inside))
    quarter = luma.shape[-1] // 4
    grid = F.interpolate(_grid(luma, weight), (quarter, quarter), mode="nearest")
    return torch.cat([F.avg_pool2d(_flat(luma), 4), grid, _copies(luma, weight)], 1)


def _flat(luma: Tensor) -> Tensor:
    """Near 1 where neighbours are equal to a level, (B, 1, S, S)."""
    across = F.pad(luma[..., 1:] - luma[..., :-1], (0, 1)).abs()
    down = F.pad(luma[..., 1:, :] - luma[..., :-1, :], (0, 0, 0, 1)).abs()
    return torch.exp(-(across + down) / _LEVEL)


def _grid(luma: Tensor, inside: Tensor) -> Tensor:
    """How far steps stand on the inside's own grid of eight pixels, (B, 1, S / 8, S / 8).

    The grid's place is where steps of the inside, folded by eight, exceed those of the outside most: the grid
    that the photograph's own compression left everywhere falls out.

    Source: blocking artifact grid of JPEG forensics (Li, Yuan and Yu 2009).
    """
    return _columns(luma, inside) + _columns(luma.mT, inside.mT).mT


def _columns(luma: Tensor, inside: Tensor) -> Tensor:
    step = F.pad((luma[..., 1:] - luma[..., :-1]).abs(), (1, 0))
    step = step.clamp_max(16 * _LEVEL)
    excess = F.avg_pool2d(step, (_BLOCK, 1)) - F.avg_pool2d(step, (_BLOCK, 7), (_BLOCK, 1), (0, 3))
    folded = excess.reshape(*excess.shape[:-1], -1, _BLOCK)  # (B, 1, S / 8, S / 8, 8)
    share = F.avg_pool2d(inside, _BLOCK)[..., None]
    profiles = [
        (folded * part).sum((1, 2, 3)) / part.sum((1, 2, 3)).clamp_min(1e-3) for part in (share, 1 - share)
    ]
    phase = (profiles[0] - profiles[1]).argmax(-1)  # (B,)
    at_phase = folded.gather(-1, phase[:, None, None, None, None].expand(*folded.shape[:-1], 1))[..., 0]
    return F.avg_pool2d(at_phase, 3, 1, 1) * 4


def _copies(luma: Tensor, inside: Tensor) -> Tensor:
    """How well each place equals another one at the lags where the inside matches the picture best.

    (B, 1, S / 4, S / 4), from 0 to 1.

    Source: copy-move detection by correlation (Fridrich, Soukal and Lukas 2003); lags from the spectrum.
    """
    detail = _normalised(luma)
    spectrum = torch.fft.rfft2(detail)
    matches = torch.fft.irfft2(torch.fft.rfft2(detail * inside).conj() * spectrum, s=luma.shape[-2:])[:, 0]
    squared = detail.square()
    energy = _patches(squared)
    best = torch.zeros_like(energy)
    for lag in _lags(matches):
        back = [-way for way in lag]
        product = detail * _rolled(detail, *back)
        for both, there in ((product, back), (_rolled(product, *lag), lag)):
            strength = energy * _patches(_rolled(squared, *there))
            best = torch.maximum(best, _patches(both) / (strength + 1e-2).sqrt())
    # Only near equality counts.
    return best.clamp(0, 1).square().square()


def _normalised(luma: Tensor) -> Tensor:
    """Detail in units of its own strength, so that a strong edge counts no more than texture."""
    detail = luma - _box(luma)
    return detail / (_box(detail.square()).sqrt() + 3 * _LEVEL)


def _box(plane: Tensor) -> Tensor:
    half = _PATCH_PX // 2
    across = F.avg_pool2d(plane, (1, _PATCH_PX), 1, (0, half), count_include_pad=False)
    return F.avg_pool2d(across, (_PATCH_PX, 1), 1, (half, 0), count_include_pad=False)


def _patches(plane: Tensor) -> Tensor:
    """Means of overlapping patches of 12 pixels, (B, 1, S / 4, S / 4)."""
    return F.avg_pool2d(F.avg_pool2d(plane, 4), 3, 1, 1)


def _lags(matches: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Rows and columns, (B,) each, of the strongest lags, none next to another and none near zero."""
    height, width = matches.shape[1:]
    rows = torch.arange(height, device=matches.device)
    columns = torch.arange(width, device=matches.device)
    reach = torch.zeros_like(rows[None]), torch.zeros_like(columns[None])
    left = matches.clone()
    found: list[tuple[Tensor, Tensor]] = []
    near = _NEAREST_LAG_PX
    for _ in range(_LAGS + 1):
        # The first round takes out the surroundings of zero.
        far = [
            _ring_distance(axis[None], centre, axis.numel())
            for axis, centre in zip((rows, columns), reach, strict=True)
        ]
        left = left.masked_fill((far[0] < near)[:, :, None] & (far[1] < near)[:, None], -torch.inf)
        place = left.flatten(1).argmax(-1)
        reach = (place // width)[:, None], (place % width)[:, None]
        found.append((reach[0][:, 0], reach[1][:, 0]))
        near = 3
    return found[:_LAGS]


def _ring_distance(axis: Tensor, centre: Tensor, length: int) -> Tensor:
    away = (axis - centre).abs()
    return torch.minimum(away, length - away)


def _rolled(plane: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each plane of the batch, moved down and to the right by its own number of pixels."""
    moves = zip(plane, rows.tolist(), columns.tolist(), strict=True)
    return torch.stack([torch.roll(each, (row, column), (-2, -1)) for each, row, column in moves])
