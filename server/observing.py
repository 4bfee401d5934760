"""Where metrics and traces learn what happens: a few moments, told to whoever asked for them."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Call", "Item", "ObservedExecutor", "Observer", "Observers", "observed_item"]

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
    """

    call_id: str
    method: str
    caller: str = ""
    status: str = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Item:
    """One candidate or preview, once it is over.

    Attributes:
        critic: who judged.
        is_preview: a candidate part-way through denoising.
        outcome: the critique, or why there is none.
        began: by the monotonic clock.
        seconds: from its arrival to its end.
    """

    critic: str
    is_preview: bool
    outcome: pb.Critique | BaseException
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


class Observer:
    """Is told; by default nothing comes of it. Called on the server's event loop, so it must be quick."""

    def call_ended(self, call: Call) -> None:
        """A call is over, answered or not."""

    def item_ended(self, item: Item) -> None:
        """A candidate or preview is over, judged or not."""

    def batch_began(self, critic: str, tasks: Sequence[CritiqueTask]) -> Callable[[], None]:  # noqa: ARG002
        """A critic begins a batch; the answer is called at its end."""
        return _nothing

    def event_sent(self, event: pb.CritiqueStreamResponse) -> None:
        """An event goes out on a stream."""


def _nothing() -> None:
    pass


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

    def batch_began(self, critic: str, tasks: Sequence[CritiqueTask]) -> Callable[[], None]:
        """To all."""
        ends = [member.batch_began(critic, tasks) for member in self.members]

        def end() -> None:
            for each in ends:
                each()

        return end

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
        end = self._observer.batch_began(self._critic, tasks)
        try:
            outcomes: list[Outcome] = await self._executor.critique(tasks, is_cancelled)
        finally:
            end()
        return outcomes


def observed_item(critique: _Method) -> _Method:
    """Tell the observer of an edit's `_hosts` of every candidate that goes through the method."""

    @functools.wraps(critique)
    async def observed(self: Any, candidate: pb.Candidate, progress: Any, **options: Any) -> pb.Critique:
        began = time.monotonic()
        item = Item(self.host.info.identity.name, progress is not None, pb.Critique(), began)
        try:
            item.outcome = found = await critique(self, candidate, progress, **options)
        except BaseException as error:
            item.outcome = error
            raise
        finally:
            item.seconds = time.monotonic() - began
            self._hosts.observer.item_ended(item)
        return found

    return observed  # type: ignore[return-value]
