"""Copies of a source for candidates to be pasted into, of which the next is made before it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_LIGHT_BYTES", "Canvas"]

MAX_LIGHT_BYTES = 2 * 2**20
"""Largest source that is copied on the event loop: the way to a thread and back takes longer."""


class Canvas:
    """Hands out each copy once, so that no two candidates share pixels.

    Args:
        source: (H, W, 3) uint8; one beyond `MAX_LIGHT_BYTES` has no copy in store.
    """

    def __init__(self, source: NDArray[np.uint8]) -> None:
        self._source = source
        self._spare: NDArray[np.uint8] | None = None

    def take(self) -> NDArray[np.uint8]:
        """A copy that is the caller's own; on the event loop."""
        spare, self._spare = self._spare, None
        return self._source.copy() if spare is None else spare

    def refill(self) -> None:
        """Make the next copy while nobody waits for it; on any thread."""
        if self._spare is None and self._source.nbytes <= MAX_LIGHT_BYTES:
            self._spare = self._source.copy()
