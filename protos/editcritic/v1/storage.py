"""Files of SQLite on a disk that may be full."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Overloaded

__all__ = ["telling_of_full_disks"]

RETRY_S = 60.0
_FULL_BYTES = 1 << 20


@contextmanager
def telling_of_full_disks(path: Path) -> Iterator[None]:
    """What SQLite raises for a full disk, as an error of the tree; a transaction that it ends has kept nothing.

    Args:
        path: the file.

    Raises:
        Overloaded: there is no room on its disk.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if not _is_full(error, path):
            raise
        raise Overloaded(
            f"there is no room left on the disk of {path.name}, so nothing was kept; make room there, then try again.",
            reason=pb.ERROR_REASON_STORAGE_FULL,
            retry_after_s=RETRY_S,
        ) from error


def _is_full(error: sqlite3.OperationalError, path: Path) -> bool:
    told = str(error)
    if "disk is full" in told:
        return True
    # SQLite tells apart only a write that failed; its shared memory and its lock files it cannot make at all.
    failed = "disk I/O error" in told or "unable to open" in told
    return failed and shutil.disk_usage(path.parent).free < _FULL_BYTES
