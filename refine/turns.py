"""A lock that is granted in the order of asking, so that two runs on one device take turns.

A plain lock may be had again and again by the thread that has just let go of it.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Protocol

__all__ = ["SharedDevice", "Turns"]


class SharedDevice(Protocol):
    """A device that others use too, a critic for one: ``with device: ...`` waits for it and leaves it."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody else waits for it."""

    def __enter__(self) -> None:
        """Wait for it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave it."""


class Turns:
    """Used as ``with turns: ...``; one thread at a time is inside, the longest waiting one comes next.

    Args:
        device: is used by whoever is inside; None for a device of one's own.
    """

    def __init__(self, device: SharedDevice | None = None) -> None:
        self._device = device
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False

    def __enter__(self) -> None:
        """Wait for one's turn, and for the device."""
        self._wait()
        if self._device is not None:
            try:
                self._device.__enter__()
            except BaseException:
                self._hand_over()
                raise

    def __exit__(self, *_raised: object) -> None:
        """Leave the device, and hand over to the one that has waited longest."""
        if self._device is not None:
            self._device.__exit__(None, None, None)
        self._hand_over()

    def give_way(self) -> None:
        """Between two steps of whoever is inside: let others have the device first, if any wait for it."""
        if self._device is not None and self._device.is_wanted:
            self._device.__exit__(None, None, None)
            self._device.__enter__()

    def _wait(self) -> None:
        turn = threading.Event()
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return
            self._waiting.append(turn)
        turn.wait()

    def _hand_over(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False
