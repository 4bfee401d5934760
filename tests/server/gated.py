"""A critic that waits at a gate, for tests of what happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from editcritic.server.critics.dummy import DummyCritic

__all__ = ["GatedCritic"]


class GatedCritic(DummyCritic):
    """Judges only while its gate is open, and keeps what it was asked."""

    gate = threading.Event()
    asked: ClassVar[list[str]] = []
    was_cancelled = threading.Event()

    @classmethod
    def reset(cls) -> None:
        cls.gate.clear()
        cls.asked.clear()
        cls.was_cancelled.clear()

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        self.asked.extend(
            f"{task.candidate.candidate_id}@{task.candidate.progress.fraction:g}"
            if task.candidate.progress
            else task.candidate.candidate_id
            for task in tasks
        )
        while not self.gate.wait(0.01):
            if is_cancelled():
                self.was_cancelled.set()
                break
        return super().critique(tasks, is_cancelled)
