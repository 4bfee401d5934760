"""What a device that ran out of memory looks like, and what can be done about it."""

from __future__ import annotations

import sys

__all__ = ["free_device_memory", "is_out_of_memory"]

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
