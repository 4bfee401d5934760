"""The network's score as a differentiable function of what stands in the mask's surroundings.

Everything between pixels and the network's input is linear: cutting, mirroring, area averaging. So each axis is one
matrix, made by the very functions that cut a picture, and what an engine paints is added to the source's own view.
The score is the mean of the network's naturalness and harmony before calibration, whose curves are flat in places.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.server.critics.network.model import SCORES, EditInput
from editcritic.server.critics.network.runner import Look, NetworkRunner, load_network, stack_looks
from editcritic.server.critics.network.view import (
    WHOLE_SIDE,
    EditView,
    cut_axis,
    look_at,
    shrink_axis,
    view_edit,
)

__all__ = ["ClimbableEdit", "ClimbableNetwork"]

_CLIMBED = [SCORES.index(name) for name in ("naturalness", "harmony")]


class ClimbableNetwork:
    """The network critic with gradients. Never judge by it what was climbed by it.

    Args:
        weights: folder of weights; the shipped ones by default.
    """

    def __init__(self, weights: Path = WEIGHTS) -> None:
        # Convolutions in float32: gradients of a reduced network are too coarse to follow.
        self.runner = NetworkRunner(load_network(weights / "network.safetensors"), reduced=False)
        for parameter in self.runner.parameters():
            parameter.requires_grad_(False)

    def open(
        self,
        source: NDArray[np.uint8],
        mask: NDArray[np.float32],
        blend: NDArray[np.float32],
        place: tuple[slice, slice],
    ) -> Callable[[Tensor], Tensor]:
        """The score of an edit as a function of what stands at `place`, (3, h, w) in [0, 1]; see `ClimbableEdit`."""
        return ClimbableEdit(self.runner, source, mask, blend, place)


class ClimbableEdit:
    """One edit. `edit(picture) -> Tensor`: a scalar, higher is better.

    Args:
        source: (H, W, 3) uint8. mask, blend: (H, W) float32 in [0, 1]. place: rows and columns that are handed in;
            elsewhere the source stands.
    """

    def __init__(
        self,
        runner: NetworkRunner,
        source: NDArray[np.uint8],
        mask: NDArray[np.float32],
        blend: NDArray[np.float32],
        place: tuple[slice, slice],
    ) -> None:
        view = view_edit(DecodedEdit("", source, mask, blend))
        window, whole = look_at(view, source)
        self._runner, self._given = runner, stack_looks([Look(view, window, whole)], runner.device)
        self._before = torch.from_numpy(source[place].astype(np.float32) / 255).permute(2, 0, 1)
        self._near, self._far = _axes(view, source.shape, place)

    def look(self, picture: Tensor) -> EditInput:
        """What the network is given for (3, h, w) float32 in [0, 1] at `place`."""
        change = 2 * (picture - self._before)
        return self._given._replace(
            candidate=self._given.candidate + (self._near[0] @ change @ self._near[1].T)[None],
            whole=self._given.whole + (self._far[0] @ change @ self._far[1].T)[None],
        )

    def __call__(self, picture: Tensor) -> Tensor:
        """The score of (3, h, w) float32 in [0, 1] at `place`."""
        score: Tensor = self._runner.forward(self.look(picture)).mean[0, _CLIMBED].mean()
        return score


def _axes(
    view: EditView, shape: tuple[int, ...], place: tuple[slice, slice]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Matrices of rows and columns, (S, h) and (S, w), for the window and (96, h) and (96, w) for the whole."""
    starts, near, far = (view.window.y, view.window.x), [], []
    for axis in (0, 1):
        span = place[axis]
        unit = np.zeros((shape[axis], span.stop - span.start), np.float32)
        unit[span] = np.eye(unit.shape[1], dtype=np.float32)
        near.append(torch.from_numpy(cut_axis(unit, starts[axis], view.window.width, view.side)))
        far.append(torch.from_numpy(shrink_axis(unit, WHOLE_SIDE)))
    return (near[0], near[1]), (far[0], far[1])
