"""A block whose time is over is cancelled, and nothing else is."""

from __future__ import annotations

import asyncio

import pytest

from editcritic.server.time_limit import time_limit


async def test_what_takes_longer_than_allowed_is_cancelled_and_told_as_a_timeout() -> None:
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError), time_limit(0.01):
        await never
    assert never.cancelled()


async def test_a_block_that_is_in_time_keeps_no_timer_behind() -> None:
    with time_limit(0.5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.6)


async def test_the_shorter_of_two_limits_ends_its_own_block_alone() -> None:
    with time_limit(60.0):
        with pytest.raises(asyncio.TimeoutError), time_limit(0.01):
            await asyncio.sleep(60)
        await asyncio.sleep(0)


async def test_a_cancelled_task_stays_cancelled() -> None:
    async def work() -> None:
        with time_limit(60.0):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_block_is_its_own() -> None:
    with pytest.raises(KeyError), time_limit(60.0):
        raise KeyError("mine")
