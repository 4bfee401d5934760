"""The file of verdicts on a full disk, and on a machine whose clock jumps."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.verdicts import VerdictStore
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Overloaded
from editcritic.v1.storage import telling_of_full_disks
from tests.server.speaking import refusal


def verdict(name: str, comment: str = "") -> pb.RecordVerdictRequest:
    kind = pb.VERDICT_KIND_ACCEPTED
    return pb.RecordVerdictRequest(verdict_id=name, edit_id="e", candidate_id="c", kind=kind, comment=comment)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Take all the room that there is."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


async def test_a_verdict_for_which_the_disk_has_no_room_is_refused_and_kept_once_there_is_room(
    serving: Any, small_disk: Path
) -> None:
    path, ballast = small_disk / "verdicts.sqlite3", small_disk / "ballast"
    async with serving(verdicts_path=path) as (_, stub):
        assert (await stub.RecordVerdict(verdict("first"))).created
        fill(ballast)
        error = await refusal(stub.RecordVerdict(verdict("second")))
        assert (error.code, error.reason) == (8, pb.ERROR_REASON_STORAGE_FULL)
        assert error.retry_after_s
        assert str(small_disk) not in error.message
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics, "judging goes on"
        ballast.unlink()
        assert (await stub.RecordVerdict(verdict("second"))).created
    assert [each.verdict_id for each in VerdictStore(path).verdicts()] == ["first", "second"]


def test_only_a_full_disk_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(Overloaded), telling_of_full_disks(tmp_path / "a"):
        raise sqlite3.OperationalError("database or disk is full")
    for other in ("database is locked", "disk I/O error"):
        with pytest.raises(sqlite3.OperationalError, match=other), telling_of_full_disks(tmp_path / "a"):
            raise sqlite3.OperationalError(other)


def test_verdicts_stay_in_the_order_in_which_they_came_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    for name, now_s in (("first", 2_000_000_000), ("second", 1_000_000_000), ("third", 3_000_000_000)):
        monkeypatch.setattr(time, "time_ns", lambda now_s=now_s: now_s * 10**9)
        store.record(verdict(name))
    assert [each.verdict_id for each in store.verdicts()] == ["first", "second", "third"]
