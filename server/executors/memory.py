"""Memory: what values and processes hold, what a lack of it looks like, and what can be done about it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

__all__ = ["free_device_memory", "held_byte_count", "is_out_of_memory", "process_byte_count"]

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing: main memory, or that of a GPU (`torch.OutOfMemoryError`, or torch's own words)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_device_memory() -> None:
    """Hand back what torch keeps for later; nothing where torch or a GPU is not in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def process_byte_count(process_id: int) -> int:
    """Memory that a process holds for itself, swapped out or not, in bytes; 0 where that cannot be told.

    Pages of files that it maps, such as weights, are left out: the kernel takes them back when it needs room.
    """
    try:
        told = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return 0
    return 1024 * sum(map(int, re.findall(r"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB", told, re.MULTILINE)))


def held_byte_count(value: Any, seen: set[int] | None = None) -> int:
    """Bytes of the arrays and tensors that a value holds, each counted once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    byte_count = getattr(value, "nbytes", None)
    if isinstance(byte_count, int):
        return byte_count
    return sum(held_byte_count(part, seen) for part in _parts(value))


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
    elif is_dataclass(value):
        yield from (getattr(value, each.name) for each in fields(value))
