"""What figures of good faces are, and how far one may stray from them before it is called a fault.

Found on the faces of the training photographs; docs/faces.md has the figures on others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CALIBRATION", "COLOUR_ALONE", "COLOUR_BESIDE", "SKIN", "USUAL", "Usual"]

CALIBRATION: Final = "faces-1"


@dataclass(frozen=True)
class Usual:
    """A figure of good faces.

    Attributes:
        middle: its median.
        alone: excess over it that is a fault.
        beside: excess over the same face of the source, or over other faces of the photograph, that is one.
    """

    middle: float
    alone: float
    beside: float


USUAL: Final[Mapping[str, Usual]] = {
    "unlikeness": Usual(-1.3, 1.0, 0.75),
    "asymmetry": Usual(0.3, 0.48, 0.3),
    "softness": Usual(0.05, 0.5, 0.4),
    "grain": Usual(0.2, 1.2, 0.8),
}
SKIN: Final = (17.0, 25.0)
"""Median a and b of skin in CIE Lab, over all faces."""
COLOUR_ALONE: Final = 42.0
"""Distance from it that is a fault: light and skin differ widely."""
COLOUR_BESIDE: Final = 16.0
"""Distance from the source's face or the photograph's other faces that is one."""
