"""How many candidates go into one batch: as many as the target time allows, found by trying."""

from __future__ import annotations

__all__ = ["BatchSize"]


class BatchSize:
    """A limit that grows by one while full batches stay within the target and halves when one does not.

    Additive increase, multiplicative decrease, as in Clipper (Crankshaw et al. 2017).

    Args:
        most: upper bound, and where it starts; 1 for critics whose batches save nothing.
        target_s: seconds that a batch may take.

    Attributes:
        current: most candidates of the next batch.
    """

    def __init__(self, most: int, target_s: float) -> None:
        self._most, self._target_s = max(1, most), target_s
        self.current = self._most

    def note(self, count: int, seconds: float) -> None:
        """Learn from a batch of `count` that took so long."""
        if seconds > self._target_s:
            self.current = max(1, min(self.current, count) // 2)
        elif count >= self.current:
            self.current = min(self._most, self.current + 1)
