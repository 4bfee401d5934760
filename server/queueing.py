"""The candidates that wait for one critic, and who of them comes next."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass, field

from editcritic.server.admission import NOBODY, Party
from editcritic.server.critics.base import CritiqueTask, Outcome
from editcritic.server.fairness import FairShare
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Ticket", "TicketQueue"]

_INTERACTIVE, _BULK = int(pb.PRIORITY_INTERACTIVE), int(pb.PRIORITY_BULK)
_WEIGHTS = {_INTERACTIVE: 8.0, _BULK: 1.0}
"""Of nine candidates that are taken while both classes wait, eight are interactive and one is bulk."""


@dataclass(eq=False)
class Ticket:
    """A task's place in the queue.

    Attributes:
        task: what is to be judged; its options name the priority.
        caller: who asks.
        deadline: by the monotonic clock; past it the task is not started.
        arrived: when it was submitted, by the monotonic clock.
        started: when it was handed to the critic; None while it waits.
        abandoned: nobody waits for the answer any more.
        answer: what it came to.
    """

    task: CritiqueTask
    caller: Party = NOBODY
    deadline: float = math.inf
    arrived: float = field(default_factory=time.monotonic)
    started: float | None = None
    abandoned: bool = False
    answer: asyncio.Future[Outcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def is_live(self) -> bool:
        """Whether somebody waits and there is time."""
        return not self.abandoned and time.monotonic() < self.deadline


class TicketQueue:
    """Tickets in fair order: interactive ones before bulk, callers in turns, and those of one caller as they came."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[Party, deque[Ticket]]] = {}
        self._count = 0
        self._classes: FairShare[int] = FairShare(_WEIGHTS.__getitem__)
        self._callers: FairShare[tuple[int, Party]] = FairShare()

    def __len__(self) -> int:
        return self._count

    def add(self, ticket: Ticket) -> None:
        """Put a ticket at the end of its caller's line."""
        lines = self._lines.setdefault(_class_of(ticket), {})
        lines.setdefault(ticket.caller, deque()).append(ticket)
        self._count += 1

    def discard(self, ticket: Ticket) -> None:
        """Take a ticket out; one that is not in the queue changes nothing."""
        line = self._lines.get(_class_of(ticket), {}).get(ticket.caller, deque())
        if ticket in line:
            line.remove(ticket)
            self._removed(_class_of(ticket), ticket.caller)

    def take(self) -> Ticket | None:
        """The next ticket, live or not; None when there is none."""
        if not self._lines:
            return None
        kind = self._classes.choose(sorted(self._lines))
        lines = self._lines[kind]
        _, caller = self._callers.choose((kind, each) for each in lines)
        ticket = lines[caller].popleft()
        self._removed(kind, caller)
        if ticket.is_live:
            # What is never started costs nobody a turn.
            self._classes.charge(kind, 1.0)
            self._callers.charge((kind, caller), 1.0)
        return ticket

    def _removed(self, kind: int, caller: Party) -> None:
        self._count -= 1
        if not self._lines[kind][caller]:
            del self._lines[kind][caller]
        if not self._lines[kind]:
            del self._lines[kind]


def _class_of(ticket: Ticket) -> int:
    return _BULK if ticket.task.options.priority == _BULK else _INTERACTIVE
