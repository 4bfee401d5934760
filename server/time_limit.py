"""A bound on the time of a block, without a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["time_limit"]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Cancel what the present task awaits in the block once the time is over.

    `asyncio.wait_for` makes a task of what it waits for, which costs three turns of the loop (before Python 3.12), and
    Python 3.10 has no `asyncio.timeout`.

    Args:
        seconds: that the block may take.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    task, is_over = asyncio.current_task(), False
    assert task is not None  # noqa: S101 - narrows the type; only a task can wait

    def end() -> None:
        nonlocal is_over
        is_over = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    except asyncio.CancelledError as error:
        if is_over:
            raise asyncio.TimeoutError from error
        raise
    finally:
        timer.cancel()
