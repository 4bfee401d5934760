"""The network critic as what steers an engine: composed here, because neither room may import the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.engine import Engine

__all__ = ["NetworkSteering", "steerable"]


class NetworkSteering:
    """A `refine.steering.DifferentiableCritic`: the shipped network, opened when it is first asked."""

    @cached_property
    def _network(self) -> Any:
        from editcritic.server.critics.network.climbing import ClimbableNetwork

        return ClimbableNetwork()

    def open(
        self,
        source: NDArray[np.uint8],
        mask: NDArray[np.float32],
        blend: NDArray[np.float32],
        place: tuple[slice, slice],
    ) -> Callable[[Any], Any]:
        """The score of an edit as a function of what stands at `place`; higher is better."""
        score: Callable[[Any], Any] = self._network.open(source, mask, blend, place)
        return score


def steerable(engine: Engine) -> Engine:
    """The engine, with the network to steer it where it can be steered."""
    if engine.capabilities.critic_guidance:
        engine.steering = NetworkSteering()  # type: ignore[attr-defined]
    return engine
