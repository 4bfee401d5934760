"""Who may use a device: one arbiter between critics that judge and engines that produce.

A GPU has one place, a CPU as many as the server has workers. Places go to those who wait so that judging, preparing and
refining get equal shares of time; within each of the three, in the order of asking.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Literal, TypeAlias

from editcritic.server.fairness import FairShare

__all__ = ["Device", "DeviceTurns", "Devices", "Flow", "Place"]

Flow: TypeAlias = Literal["judge", "prepare", "refine"]


class Place:
    """A place on a device, until `leave`."""

    def __init__(self, device: Device, flow: Flow, since: float) -> None:
        self.flow: Flow = flow
        self.since = since
        self._device = device

    def leave(self) -> None:
        """Give it to the next. From any thread; only once."""
        self._device._take_back(self)


class Device:
    """One device's places. Safe to use from threads and from an event loop.

    Args:
        places: how many may use it at a time.
        clock: seconds that only grow.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.places = places
        self._clock = clock
        self._guard = threading.Lock()
        self._held: set[Place] = set()
        self._waiting: dict[Flow, deque[Future[Place]]] = {
            "judge": deque(),
            "prepare": deque(),
            "refine": deque(),
        }
        self._shares: FairShare[Flow] = FairShare()

    @property
    def is_free(self) -> bool:
        """Whether a place could be had at once."""
        return len(self._held) < self.places

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a place."""
        with self._guard:
            return any(not each.cancelled() for line in self._waiting.values() for each in line)

    def request(self, flow: Flow) -> Future[Place]:
        """Ask for a place. Cancel the future to stop waiting; once it has a place, that has to be left."""
        asked: Future[Place] = Future()
        with self._guard:
            self._waiting[flow].append(asked)
            self._grant()
        return asked

    async def enter(self, flow: Flow) -> Place:
        """Wait for a place; cancelling the wait takes the request back."""
        asked = self.request(flow)
        if asked.done():
            return asked.result()
        try:
            return await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            # It may have been granted a moment ago, in another thread.
            if not asked.cancel() and not asked.cancelled():
                asked.result().leave()
            raise

    def turns(self, flow: Flow) -> DeviceTurns:
        """Places for a thread that uses one at a time."""
        return DeviceTurns(self, flow)

    def _take_back(self, place: Place) -> None:
        with self._guard:
            self._settle()
            self._held.remove(place)
            self._grant()

    def _settle(self) -> None:
        """Charge the holders for the time since they were last charged."""
        now = self._clock()
        for place in self._held:
            self._shares.charge(place.flow, now - place.since)
            place.since = now

    def _grant(self) -> None:
        while self.is_free and (flows := [flow for flow, line in self._waiting.items() if line]):
            self._settle()
            flow = self._shares.choose(flows)
            asked = self._waiting[flow].popleft()
            if asked.set_running_or_notify_cancel():
                place = Place(self, flow, self._clock())
                self._held.add(place)
                asked.set_result(place)


class DeviceTurns:
    """A device's place for a thread: ``with turns: ...``. What the loop is handed, which knows no server."""

    def __init__(self, device: Device, flow: Flow) -> None:
        self._device, self._flow = device, flow
        self._place: Place | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for the device."""
        return self._device.is_wanted

    def __enter__(self) -> None:
        """Wait for a place."""
        self._place = self._device.request(self._flow).result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave it."""
        place, self._place = self._place, None
        if place is not None:
            place.leave()


class Devices:
    """The devices of this machine by name, made when first asked for.

    Args:
        cpu_places: how many may compute on the CPU at a time.
    """

    def __init__(self, cpu_places: int) -> None:
        self._cpu_places = cpu_places
        self._by_name: dict[str, Device] = {}

    @property
    def by_name(self) -> Mapping[str, Device]:
        """Those that were asked for."""
        return self._by_name

    def device(self, name: str) -> Device:
        """The device of that name; "cuda" is "cuda:0"."""
        full = f"{name}:0" if name in ("cuda", "mps") else name or "cpu"
        if full not in self._by_name:
            self._by_name[full] = Device(self._cpu_places if full == "cpu" else 1)
        return self._by_name[full]

    def refining(self, name: str) -> DeviceTurns:
        """What an engine on that device takes its turns by."""
        return self.device(name).turns("refine")
