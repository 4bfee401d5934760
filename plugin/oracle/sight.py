"""Says which solid of which colour it sees inside a mask, from the picture alone.

Two small classifiers of its own. They learned from true renderings over photographs (`train.py`), some of them
painted again by the engine (`repainted.py`); they have never seen a plain answer of the engine nor anything of a
critic, and are told nothing of the prompt, the seed or the scene. Their accuracy on true renderings over other
photographs stands beside every figure that rests on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from editcritic.refine.tabletop.words import COLOURS, THINGS

__all__ = ["HUES", "NAMES", "SIDE", "WEIGHTS", "Oracle", "Sight", "network", "view"]

WEIGHTS = tuple(Path(__file__).with_name(f"oracle-{number}.safetensors") for number in (1, 2))
SIDE = 64
NAMES, HUES = (*THINGS, None), tuple(COLOURS)


@dataclass(frozen=True)
class Sight:
    """What is seen: shape and colour, both None where nothing stands."""

    shape: str | None
    colour: str | None


def view(picture: NDArray[np.uint8], mask: NDArray[Any]) -> NDArray[np.float32]:
    """(4, 64, 64): picture and mask, a tenth wider than the mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    half = 0.55 * max(np.ptp(rows), np.ptp(columns)) + 1
    box = (x - half, y - half, x + half, y + half)

    def cut(plane: Image.Image) -> NDArray[np.float32]:
        extent = plane.transform((SIDE, SIDE), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)
        return np.asarray(extent, np.float32) / 127.5 - 1

    # A crop that is shrunk is smoothed first, or thin shapes would break up.
    shrink = max(1, round(2 * half / SIDE))
    colour, plane = Image.fromarray(picture), Image.fromarray(mask.astype(np.uint8) * 255)
    if shrink > 1:
        colour, plane = colour.reduce(shrink), plane.reduce(shrink)
        box = tuple(edge / shrink for edge in box)
    return np.concatenate([np.moveaxis(cut(colour), -1, 0), cut(plane)[None]]).astype(np.float32)


def network() -> nn.Sequential:
    """Four levels of two convolutions, and a vote of mean and maximum."""
    layers: list[nn.Module] = []
    for inside, outside in [(4, 32), (32, 64), (64, 128), (128, 192)]:
        layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU()]
        layers += [nn.Conv2d(outside, outside, 3, 1, 1), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, _Vote(), nn.Dropout(0.2), nn.Linear(384, len(NAMES) + len(HUES)))


def _load(weights: Path) -> nn.Sequential:
    loaded = network().eval()
    loaded.load_state_dict({k: v.float() for k, v in load_file(weights).items()}, strict=False)
    return loaded


class _Vote(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)


class Oracle:
    """`Oracle().look(picture, mask)`: the mean of networks trained apart, of the picture and its mirror image.

    weights: a file for each network.
    """

    def __init__(self, weights: Sequence[Path] = WEIGHTS) -> None:
        self._networks = [_load(file) for file in weights]

    @torch.no_grad()
    def look(self, picture: NDArray[np.uint8], mask: NDArray[Any]) -> Sight:
        """picture (H, W, 3) uint8, mask (H, W): what stands inside the mask."""
        seen = torch.from_numpy(view(picture, mask))
        both = torch.stack([seen, seen.flip(-1)])
        scores = torch.cat([each(both) for each in self._networks]).mean(0)
        shape = NAMES[int(scores[: len(NAMES)].argmax())]
        return Sight(shape, None if shape is None else HUES[int(scores[len(NAMES) :].argmax())])
