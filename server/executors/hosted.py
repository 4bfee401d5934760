"""What executors have in common whose model comes and goes while the server runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb

__all__ = ["HostedExecutor", "Vitals"]


@dataclass
class Vitals:
    """What an operator is told of a critic.

    Attributes:
        wakes: times that its model came back after sleep.
        ends: of its processes, by cause.
        byte_count: asks for the memory that its process holds; 0 without one.
    """

    wakes: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    byte_count: Callable[[], int] = lambda: 0


class HostedExecutor(Protocol):
    """An executor that is started and closed, and may sleep in between.

    Attributes:
        info: of the critic; its state is kept up to date.
        vitals: for metrics.
        on_health: told whether new edits may go to the critic, whenever that changes.
    """

    info: pb.CriticInfo
    vitals: Vitals
    on_health: Callable[[bool], None]

    async def prepare(self, edit: DecodedEdit) -> Any:
        """As `batcher.Executor.prepare`."""

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """As `batcher.Executor.critique`."""

    async def start(self) -> None:
        """Load the critic for the first time.

        Raises:
            EditCriticError: it cannot be loaded.
        """

    async def wake(self) -> None:
        """Load it again after `sleep`.

        Raises:
            ServerUnavailable: it cannot be loaded now.
        """

    async def sleep(self) -> None:
        """Release its model. Only while nothing runs."""

    async def close(self) -> None:
        """Release everything for good. Safe to call twice."""
