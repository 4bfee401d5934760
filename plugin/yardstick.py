"""A yardstick for speed: MobileNetV3-Small without weights, timed beside the critic at the same picture size.

Source: Howard et al., "Searching for MobileNetV3" (2019), table 2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["mobilenet_v3_small"]

# Kernel, expanded width, width, squeeze-and-excite, hard swish, stride.
_ROWS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def mobilenet_v3_small() -> nn.Module:
    """The network in evaluation mode: (B, 3, S, S) -> (B, 1000)."""
    layers: list[nn.Module] = [_convolution(3, 16, 3, 2, nn.Hardswish())]
    width = 16
    for kernel, expanded, after, squeezed, swish, stride in _ROWS:
        layers.append(_Block(width, kernel, expanded, after, squeezed, swish, stride))
        width = after
    layers += [_convolution(width, 576, 1, 1, nn.Hardswish()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    layers += [nn.Linear(576, 1024), nn.Hardswish(), nn.Linear(1024, 1000)]
    return nn.Sequential(*layers).eval()


def _convolution(
    inside: int, outside: int, kernel: int, stride: int, activation: nn.Module | None, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), activation or nn.Identity())


class _Block(nn.Module):
    def __init__(
        self, before: int, kernel: int, expanded: int, after: int, squeezed: bool, swish: bool, stride: int
    ) -> None:
        super().__init__()
        activation = nn.Hardswish() if swish else nn.ReLU()
        layers: list[nn.Module] = []
        if expanded != before:
            layers.append(_convolution(before, expanded, 1, 1, activation))
        layers.append(_convolution(expanded, expanded, kernel, stride, activation, groups=expanded))
        if squeezed:
            layers.append(_Squeeze(expanded))
        layers.append(_convolution(expanded, after, 1, 1, None))
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


class _Squeeze(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(8, (width // 4 + 4) // 8 * 8)
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, narrow, 1),
            nn.ReLU(),
            nn.Conv2d(narrow, width, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.as_tensor(self.layers(x))
