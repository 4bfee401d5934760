"""Sharing among callers: whose turn it is, and how much of what is left one of them may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["FairLimit", "FairShare"]

Key = TypeVar("Key", bound=Hashable)

_SHARE_OF_FREE = 3
"""One caller alone gets 3/4 of a limit, two get 3/7 each: somebody who comes later always finds room."""
_KEPT_KEYS = 4096


class FairShare(Generic[Key]):
    """Whose turn it is among those who wait: who was given least for their weight.

    Who comes back after a pause starts where the others are, so that idle time is no credit (start-time fair queueing,
    Goyal, Vin and Cheng 1996).

    Args:
        weight: of a key; one of weight 8 is given eight times as much as one of weight 1 while both wait.
    """

    def __init__(self, weight: Callable[[Key], float] = lambda _key: 1.0) -> None:
        self._weight = weight
        self._given: dict[Key, float] = {}
        self._now = 0.0

    def choose(self, waiting: Iterable[Key]) -> Key:
        """The one whose turn it is; the first of equals."""
        chosen = min(waiting, key=self._start)
        self._now = self._start(chosen)
        return chosen

    def charge(self, key: Key, amount: float) -> None:
        """Note what a key was given, in any unit that is the same for all."""
        self._given[key] = self._start(key) + amount / self._weight(key)
        if len(self._given) > _KEPT_KEYS:
            # Callers that came once and left; everybody begins anew.
            self._given.clear()

    def _start(self, key: Key) -> float:
        return max(self._given.get(key, 0.0), self._now)


class FairLimit(Generic[Key]):
    """A bound over all callers of which one caller may take no more than a share of what the others left.

    Dynamic thresholds (Choudhury and Hahne 1998): a caller holds at most three times what is free.

    Args:
        total: most over all callers.

    Attributes:
        used: taken over all callers.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._held: Counter[Key] = Counter()

    def fits(self, caller: Key, amount: int) -> bool:
        """Whether there is room for that much more; for nothing there always is."""
        free = self.total - self.used
        return amount == 0 or (amount <= free and self._held[caller] + amount <= _SHARE_OF_FREE * free)

    def take(self, caller: Key, amount: int) -> None:
        """Take room that `fits`, to be given back with `give_back`."""
        self.used += amount
        self._held[caller] += amount

    def give_back(self, caller: Key, amount: int) -> None:
        """Give room back."""
        self.used -= amount
        self._held[caller] -= amount
        if not self._held[caller]:
            del self._held[caller]
