"""How long our own code holds Krita's thread: every slot of ours is timed, always, as the promise is 50 ms."""

from __future__ import annotations

import functools
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple, TypeVar, cast

__all__ = ["LIMIT_MS", "TIMES", "timed", "timing"]

LIMIT_MS = 50.0
"""No slot of ours may hold Krita's thread for longer."""

TIMES: Dict[str, Dict[str, float]] = {}
"""By slot: how often it ran; its longest time by the clock; its longest time less what the thread waited for a
processor that others used (the same where the system does not tell); its longest time at work. All in ms."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_inside = threading.local()


def timed(function: _Function) -> _Function:
    """Time every call of a slot."""

    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        with timing(function.__qualname__):
            return function(*arguments, **named)

    return cast(_Function, run)


@contextmanager
def timing(name: str) -> Iterator[None]:
    """Time a block; within another timed one it counts as part of that."""
    if getattr(_inside, "is_timed", False):
        yield
        return
    _inside.is_timed = True
    began, waited = _clock()
    worked = time.thread_time()
    try:
        yield
    finally:
        _inside.is_timed = False
        ended, waited_then = _clock()
        at_work = time.thread_time() - worked
        _note(name, 1000 * (ended - began), 1000 * (waited_then - waited), 1000 * at_work)


def _note(name: str, wall_ms: float, waited_ms: float, work_ms: float) -> None:
    entry = TIMES.setdefault(name, {"count": 0, "wall_ms": 0.0, "own_ms": 0.0, "work_ms": 0.0})
    entry["count"] += 1
    entry["wall_ms"] = max(entry["wall_ms"], wall_ms)
    entry["work_ms"] = max(entry["work_ms"], work_ms)
    entry["own_ms"] = max(entry["own_ms"], max(0.0, wall_ms - waited_ms))


def _clock() -> Tuple[float, float]:
    """Now, and how long this thread has waited for a processor until now; both in seconds."""
    now = time.perf_counter()
    try:
        told = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text(encoding="ascii")
        return now, int(told.split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return now, 0.0
