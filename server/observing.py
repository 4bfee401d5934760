"""Where metrics and traces learn what happens: a few moments, told to whoever asked for them."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import tracing

__all__ = ["STAGES", "Call", "Item", "ObservedExecutor", "Observer", "Observers", "observed_item"]

STAGES = ("decode", "prepare", "queue", "critique")
"""Of a candidate, in their order."""
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[pb.Critique]])


@dataclass
class Call:
    """One call, once it is over.

    Attributes:
        call_id: of the server's own making.
        method: ``Service/Method``.
        caller: name of the token or certificate.
        status: gRPC's name of the status, "OK" for one.
        reason: name of the ErrorReason; empty without an error of ours.
        seconds: that it was open.
        trace_id: in hexadecimal; empty without traces.
        transport: "grpc", or "http" for one that came as JSON.
    """

    call_id: str
    method: str
    caller: str = ""
    status: str = ""
    reason: str = ""
    seconds: float = 0.0
    trace_id: str = ""
    transport: str = "grpc"


@dataclass
class Item:
    """One candidate or preview, once it is over.

    Attributes:
        critic: who judged.
        is_preview: a candidate part-way through denoising.
        outcome: the critique, or why there is none.
        seconds: from its arrival to its end.
    """

    critic: str
    is_preview: bool
    outcome: pb.Critique | BaseException
    seconds: float = 0.0


class Observer:
    """Is told; by default nothing comes of it. Called on the server's event loop, so it must be quick."""

    def call_ended(self, call: Call) -> None:
        """A call is over, answered or not."""

    def item_ended(self, item: Item) -> None:
        """A candidate or preview is over, judged or not."""

    def batch_began(self, critic: str, tasks: Sequence[CritiqueTask]) -> None:
        """A critic begins a batch."""

    def event_sent(self, event: pb.CritiqueStreamResponse) -> None:
        """An event goes out on a stream."""


class Observers(Observer):
    """Tells several; none of them cost nothing.

    Attributes:
        members: who is told.
    """

    def __init__(self) -> None:
        self.members: list[Observer] = []

    def call_ended(self, call: Call) -> None:
        """To all."""
        for member in self.members:
            member.call_ended(call)

    def item_ended(self, item: Item) -> None:
        """To all."""
        for member in self.members:
            member.item_ended(item)

    def batch_began(self, critic: str, tasks: Sequence[CritiqueTask]) -> None:
        """To all."""
        for member in self.members:
            member.batch_began(critic, tasks)

    def event_sent(self, event: pb.CritiqueStreamResponse) -> None:
        """To all."""
        for member in self.members:
            member.event_sent(event)


class ObservedExecutor:
    """An executor whose batches are told of.

    Args:
        executor: where the critic runs.
        critic: its name.
        observer: who is told.
    """

    def __init__(self, executor: Any, critic: str, observer: Observer) -> None:
        self._executor, self._critic, self._observer = executor, critic, observer

    async def prepare(self, edit: DecodedEdit) -> Any:
        """As the executor does."""
        return await self._executor.prepare(edit)

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """As the executor does."""
        self._observer.batch_began(self._critic, tasks)
        links = [task.origin for task in tasks]
        # A batch works for several traces, so it belongs to none of them.
        with tracing.span("batch", links=links, is_root=True, critic=self._critic, count=len(tasks)):
            outcomes: list[Outcome] = await self._executor.critique(tasks, is_cancelled)
        return outcomes


def observed_item(critique: _Method) -> _Method:
    """Tell the observer of an edit's `_hosts` of every candidate that goes through the method."""

    @functools.wraps(critique)
    async def observed(self: Any, candidate: pb.Candidate, progress: Any, **options: Any) -> pb.Critique:
        began, began_ns = time.monotonic(), time.time_ns()
        item = Item(self.host.info.identity.name, progress is not None, pb.Critique())
        with tracing.span("candidate", critic=item.critic, is_preview=item.is_preview):
            try:
                item.outcome = found = await critique(self, candidate, progress, **options)
            except BaseException as error:
                item.outcome = error
                raise
            finally:
                item.seconds = time.monotonic() - began
                self._hosts.observer.item_ended(item)
            if tracing.is_on():
                _trace_stages(found.timings, began_ns)
        return found

    return observed  # type: ignore[return-value]


def _trace_stages(timings: pb.Timings, began_ns: int) -> None:
    """A candidate goes through its stages one after the other, so their lengths tell when each began."""
    for stage in STAGES:
        seconds = getattr(timings, f"{stage}_ms") / 1000
        tracing.past(stage, began_ns, seconds)
        began_ns += round(seconds * 1e9)
