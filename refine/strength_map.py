"""A strength for every pixel, as engines are asked for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.capabilities import Capabilities
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["check_strength_map", "largest_strength"]

Array = NDArray[np.float32]


def check_strength_map(
    strengths: NDArray[Any], size: tuple[int, int], able: Capabilities, strength: float | None = None
) -> Array:
    """The map as (H, W) float32 in [0, 1].

    size: (H, W) of the source. strength: of the whole call, which a map leaves no room for.
    Raises: InvalidInput when the engine takes no map, or this is none for that source.
    """
    if not able.strength_map:
        raise _refused(f"the engine {able.name!r} takes one strength for all pixels; use strength instead")
    if strength is not None:
        raise _refused("a strength and a map of strengths were both given; leave one out")
    if not isinstance(strengths, np.ndarray) or strengths.dtype.kind != "f" or strengths.shape != size:
        what = (
            f"{strengths.dtype} {strengths.shape}" if isinstance(strengths, np.ndarray) else type(strengths)
        )
        raise _refused(f"the map is {what}; expected float {size}, as high and wide as the source")
    if not (strengths.min() >= 0 and strengths.max() <= 1):  # also false for NaN
        raise _refused(f"the map holds {strengths.min()} to {strengths.max()}; expected 0 to 1")
    return strengths.astype(np.float32)


def largest_strength(strengths: Array, steps: int) -> float:
    """The strength of the whole call: the map's largest, yet at least one step's, as no pipeline executes none."""
    return max(float(strengths.max()), 1 / steps)


def _refused(what: str) -> InvalidInput:
    return InvalidInput(f"{what}.", reason=pb.ERROR_REASON_FIELD_INVALID, field="strength_map")
