"""The C library's heap in a server that runs for weeks."""

from __future__ import annotations

import ctypes

__all__ = ["limit_arenas"]

_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2


def limit_arenas() -> bool:
    """Have all threads share two of glibc's arenas, before there are any; whether that could be done.

    By default each thread gets its own, up to eight a core, and what one of them has freed the others cannot use: the
    memory of a server with a dozen threads creeps up for hours, although nothing is held (measured in docs/serving.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # Another C library; Windows has none of this name at all.
        return False
    return bool(mallopt(_M_ARENA_MAX, _ARENAS))
