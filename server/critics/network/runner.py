"""The network with its weights, ready to judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from editcritic.server.critics.network.model import SCORES, EditInput, EditNetwork, EditOutput
from editcritic.server.critics.network.view import EditView, look_at
from editcritic.v1.errors import InvalidInput

__all__ = ["BUCKETS", "Look", "NetworkRunner", "climb", "load_network", "stack_looks"]

BUCKETS = (1, 2, 4, 8, 16)
"""Sizes of batches on a GPU."""
_VISUAL = SCORES.index("visual_quality")


@dataclass(frozen=True, eq=False)
class Look:
    """One candidate as the network is given it.

    Attributes:
        view: of its edit.
        window: (S, S, 3) uint8.
        whole: (96, 96, 3) uint8.
        progress: share of the steps done; 1 for a finished candidate.
        mask_known: False to let the network find the region.
    """

    view: EditView
    window: NDArray[np.uint8]
    whole: NDArray[np.uint8]
    progress: float = 1.0
    mask_known: bool = True


def load_network(file: Path) -> EditNetwork:
    """The network with the weights of a safetensors file.

    Raises:
        InvalidInput: the file is missing, broken, or of another network.
    """
    network = EditNetwork()
    try:
        weights = {name: tensor.float() for name, tensor in load_file(file).items()}
        network.load_state_dict(weights | _counters(network))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InvalidInput(f"{file} holds no weights of the network critic: {error}") from error
    return network


class NetworkRunner:
    """`NetworkRunner(network)(look) -> EditOutput` of a batch of one; `together` for several.

    On a CPU a batch saves nothing. On a GPU candidates run together, in batches of a few fixed sizes that are filled
    up, so that few shapes occur; a score does not depend on its neighbours.
    Where the processor has matrix units for bfloat16 the convolutions use them: a third faster, and scores
    move by hundredths of a point.

    Args:
        reduced: convolutions in bfloat16; None for where the processor is made for it.
    """

    def __init__(self, network: EditNetwork, device: str = "cpu", *, reduced: bool | None = None) -> None:
        self.device = torch.device(device)
        network.reduced = _multiplies_bfloat16(self.device) if reduced is None else reduced
        self._network = _folded(network.eval()).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, look: Look) -> EditOutput:
        """Judge one candidate."""
        return self.forward(stack_looks([look], self.device))

    @torch.inference_mode()
    def together(self, looks: Sequence[Look]) -> list[EditOutput]:
        """Judge several, an output of a batch of one for each."""
        outputs: dict[int, EditOutput] = {}
        for side in {look.view.side for look in looks}:
            places = [place for place, look in enumerate(looks) if look.view.side == side]
            for begin in range(0, len(places), BUCKETS[-1]):
                part = places[begin : begin + BUCKETS[-1]]
                whole = self.forward(stack_looks(_filled_up([looks[place] for place in part]), self.device))
                outputs |= {place: _row(whole, row) for row, place in enumerate(part)}
        return [outputs[place] for place in range(len(looks))]

    def parameters(self) -> Iterator[nn.Parameter]:
        """The network's own."""
        yield from self._network.parameters()

    def forward(self, given: EditInput) -> EditOutput:
        """Judge a batch, with gradients where they are asked for."""
        output: EditOutput = self._network(given)
        return output


def _filled_up(looks: list[Look]) -> list[Look]:
    size = next(size for size in BUCKETS if size >= len(looks))
    return looks + [looks[-1]] * (size - len(looks))


def _row(output: EditOutput, row: int) -> EditOutput:
    return EditOutput(**{each.name: getattr(output, each.name)[row : row + 1] for each in fields(output)})


def stack_looks(looks: Sequence[Look], device: torch.device) -> EditInput:
    """Looks of one size as a batch."""
    known = np.array([look.mask_known for look in looks], np.float32)
    shown = known[:, None, None]

    def tensor(arrays: Sequence[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(device)

    def picture(arrays: Sequence[NDArray[np.uint8]]) -> Tensor:
        return tensor(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1

    return EditInput(
        candidate=picture([look.window for look in looks]),
        source=picture([look.view.source for look in looks]),
        alpha=tensor([look.view.alpha for look in looks] * shown)[:, None],
        regions=tensor([look.view.regions for look in looks]),
        whole=picture([look.whole for look in looks]),
        whole_alpha=tensor([look.view.whole_alpha for look in looks] * shown)[:, None],
        progress=torch.tensor([look.progress for look in looks], dtype=torch.float32, device=device),
        mask_known=torch.from_numpy(known).to(device),
    )


def climb(
    runner: NetworkRunner, view: EditView, candidate: NDArray[np.uint8], levels: float, steps: int
) -> NDArray[np.uint8]:
    """Projected gradient ascent on visual quality within `levels` of 255 inside the mask, (H, W, 3) uint8.

    Source: Madry et al. 2018. Where the window was shrunk, the perturbation is enlarged back.
    """
    window, whole = look_at(view, candidate)
    given = stack_looks([Look(view, window, whole)], runner.device)
    alpha, reach = given.alpha, levels / 127.5
    moved = torch.zeros_like(given.candidate)
    for _ in range(steps):
        moved.requires_grad_(True)
        score = runner.forward(given._replace(candidate=given.candidate + alpha * moved)).mean[0, _VISUAL]
        (gradient,) = torch.autograd.grad(score, moved)
        moved = (moved.detach() + 0.4 * reach * gradient.sign()).clamp(-reach, reach)
    change = (alpha * moved * 127.5)[0].permute(1, 2, 0).cpu().numpy()
    return _put_back(view, candidate, change)


def _put_back(view: EditView, candidate: NDArray[np.uint8], change: NDArray[np.float32]) -> NDArray[np.uint8]:
    part = view.within_photo(change)
    box = view.photo
    if part.shape[:2] != (box.height, box.width):
        part = np.asarray(cv2.resize(part, (box.width, box.height), interpolation=cv2.INTER_LINEAR))
    moved = candidate.astype(np.float32)
    moved[box.slices] += part
    return np.clip(np.round(moved), 0, 255).astype(np.uint8)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # torch has no public name for it; without the answer float32 is right everywhere.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def _counters(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if not value.is_floating_point()}


def _folded(network: EditNetwork) -> EditNetwork:
    """The same function with every batch norm folded into the convolution before it."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                pair = module[place], module[place + 1]
                if isinstance(pair[0], nn.Conv2d) and isinstance(pair[1], nn.BatchNorm2d):
                    module[place] = fuse_conv_bn_eval(pair[0], pair[1])
                    module[place + 1] = nn.Identity()
    return network
