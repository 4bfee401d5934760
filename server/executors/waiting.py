"""Waiting for what others may stop waiting for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from editcritic.server.device import Device, Flow
from editcritic.v1.errors import Cancelled

__all__ = ["forever", "turn", "until"]

_Result = TypeVar("_Result")
LOOK_EVERY_S = 0.05


def forever() -> bool:
    """Somebody always waits."""
    return False


async def until(work: asyncio.Future[_Result], is_cancelled: Callable[[], bool]) -> _Result:
    """The result of work that goes on whether or not this wait does.

    Raises:
        Cancelled: nobody waits any more.
    """
    while not (await asyncio.wait({work}, timeout=LOOK_EVERY_S))[0]:
        if is_cancelled():
            raise Cancelled("nobody waits for this critique any more")
    return work.result()


@contextlib.asynccontextmanager
async def turn(device: Device, flow: Flow) -> AsyncIterator[None]:
    """A place on a device for the length of a block."""
    place = await device.enter(flow)
    try:
        yield
    finally:
        place.leave()
