"""A lock that is granted in the order of asking, so that two runs on one device take turns.

A plain lock may be had again and again by the thread that has just let go of it.
"""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Used as ``with turns: ...``; one thread at a time is inside, the longest waiting one comes next."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False

    def __enter__(self) -> None:
        """Wait for one's turn."""
        turn = threading.Event()
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return
            self._waiting.append(turn)
        turn.wait()

    def __exit__(self, *_raised: object) -> None:
        """Hand over to the one that has waited longest."""
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False
