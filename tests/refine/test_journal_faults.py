"""A journal on a full disk loses nothing that was told, and one on a machine whose clock jumps keeps its order."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.request import completed_request
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import Overloaded
from editcritic.v1.images import encode_image, encode_mask
from tests.refine.critics import PlainCritic


class SmallDisk:
    """What SQLite may write is limited in pages of 4 KiB, as on a disk that is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages = 1 << 30
        connect = sqlite3.connect

        def limited(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.execute(f"PRAGMA max_page_count = {self.pages}")
            return connection

        monkeypatch.setattr(sqlite3, "connect", limited)

    def fill(self, path: Path) -> None:
        with sqlite3.connect(path) as connection:
            (self.pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    return SmallDisk(monkeypatch)


def request_of(name: str) -> refine_pb2.RefineRequest:
    rng = np.random.default_rng(2)
    mask = np.zeros((96, 96), np.float32)
    mask[30:60, 30:70] = 1.0
    source = encode_image(rng.integers(40, 200, (96, 96, 3), dtype=np.uint8))
    edit = pb.Edit(edit_id=name, source=source, denoise_mask=encode_mask(mask), prompt="a red ball")
    sampling = refine_pb2.SamplingOptions(engine="dummy", candidate_count=4, seed=3)
    return completed_request(refine_pb2.RefineRequest(edit=edit, sampling=sampling))


def picture_of(events: list[refine_pb2.RefineResponse]) -> bytes:
    (result,) = [event.result for event in events if event.HasField("result")]
    return result.image.SerializeToString(deterministic=True)


def test_a_run_that_finds_the_disk_full_ends_with_that_and_is_resumed_to_the_same_picture(
    tmp_path: Path, disk: SmallDisk
) -> None:
    request = request_of("mine")
    straight = list(
        Refinement(load_engine("dummy"), PlainCritic(), request, Journal(tmp_path / "straight")).run()
    )
    path = tmp_path / "full"
    journal = Journal(path)
    told: list[refine_pb2.RefineResponse] = []

    def run() -> None:
        for event in Refinement(load_engine("dummy"), PlainCritic(), request, journal).run():
            told.append(event)
            if len(told) == 6:
                disk.fill(path)

    with pytest.raises(Overloaded) as full:
        run()
    assert (full.value.code, full.value.reason) == (8, pb.ERROR_REASON_STORAGE_FULL)
    assert full.value.retry_after_s
    kept = [event.sequence for event in journal.events("mine")]
    assert kept == list(range(1, len(kept) + 1)), "no step is missing, none is there in part"
    told_and_kept = [event.sequence for event in told if event.sequence in kept]
    assert told_and_kept[-1] == kept[-1], "what was told was kept before"
    disk.pages = 1 << 30
    resumed = list(Refinement(load_engine("dummy"), PlainCritic(), request, journal).run())
    assert picture_of(resumed) == picture_of(straight)


def test_an_edit_that_cannot_be_written_down_is_not_begun(tmp_path: Path, disk: SmallDisk) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    disk.fill(path)
    with pytest.raises(Overloaded):
        journal.begin("mine", request_of("mine"))
    disk.pages = 1 << 30
    assert journal.edits().edits == []
    journal.begin("mine", request_of("mine"))


def test_a_journal_that_cannot_be_made_for_lack_of_room_is_told_as_that(
    tmp_path: Path, disk: SmallDisk
) -> None:
    disk.pages = 1
    with pytest.raises(Overloaded, match="no room left"):
        Journal(tmp_path / "journal")


def test_the_newest_edit_comes_first_although_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal")
    for name, now_s in (("first", 2_000_000_000), ("second", 1_000_000_000), ("third", 3_000_000_000)):
        monkeypatch.setattr(time, "time_ns", lambda now_s=now_s: now_s * 10**9)
        journal.begin(name, request_of(name))
    page = journal.edits(page_size=2)
    rest = journal.edits(page_size=2, page_token=page.next_page_token)
    assert [each.edit_id for each in (*page.edits, *rest.edits)] == ["third", "second", "first"]
    assert [each.started_unix_ms for each in page.edits] == [3 * 10**12, 10**12], (
        "the times are as they were told"
    )
