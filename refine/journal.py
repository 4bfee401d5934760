"""The journal: every edit with every event of its run, in one SQLite file.

An event is written before the next step starts, so a killed process loses at most the step it was in.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from editcritic.refine.preview_table import Group
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput, NotFound
from editcritic.v1.storage import telling_of_full_disks

__all__ = ["Journal", "RunJournal"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS edits (
    edit_id TEXT PRIMARY KEY,
    request BLOB NOT NULL,
    prompt TEXT NOT NULL,
    started_unix_ms INTEGER NOT NULL,
    stop_reason INTEGER NOT NULL DEFAULT 0,
    overall REAL,
    candidate_count INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    edit_id TEXT NOT NULL REFERENCES edits,
    sequence INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (edit_id, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS preview_groups (
    edit_id TEXT PRIMARY KEY REFERENCES edits,
    learned_by TEXT NOT NULL,
    learned TEXT NOT NULL
);
"""
_MAX_PAGE = 1000
_PAGE_TOKEN = re.compile(r"[0-9]{1,12}")
_MAX_GROUPS = 400


class RunJournal(Protocol):
    """The journal as a run sees it, wherever the file is."""

    def begin(self, edit_id: str, request: refine_pb2.RefineRequest, /) -> None:
        """As `Journal.begin`."""

    def append(self, edit_id: str, event: refine_pb2.RefineResponse, /) -> None:
        """As `Journal.append`."""

    def events(self, edit_id: str, /) -> list[refine_pb2.RefineResponse]:
        """As `Journal.events`."""

    def keep_previews(self, edit_id: str, learned_by: str, group: Group, /) -> None:
        """As `Journal.keep_previews`."""

    def previews(self, learned_by: str, /) -> list[Group]:
        """As `Journal.previews`."""


class Journal:
    """A file of edits. One connection for each call, so it may be used from any thread.

    Args:
        path: SQLite file; made with its folders when missing.

    Raises: InvalidInput when the file is no journal, OSError when it cannot be made. Whatever writes raises Overloaded
        when the disk is full; then nothing of it was kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._open() as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise InvalidInput(
                f"{path} is no journal of editcritic ({error}); name another file, or move this one away"
            ) from error

    def begin(self, edit_id: str, request: refine_pb2.RefineRequest) -> None:
        """Keep what was asked for; asking for the same again changes nothing, so a run can be resumed.

        Raises: InvalidInput when there is an edit of that name that asked for something else.
        """
        row = (edit_id, request.SerializeToString(), request.edit.prompt, time.time_ns() // 1_000_000)
        try:
            with self._open() as connection:
                connection.execute(
                    "INSERT INTO edits (edit_id, request, prompt, started_unix_ms) VALUES (?, ?, ?, ?)", row
                )
        except sqlite3.IntegrityError as error:
            if self.request(edit_id) == request:
                return
            raise InvalidInput(
                f"there is an edit {edit_id!r} in the journal already, which asked for something else; resume it, "
                "or give another edit_id",
                reason=pb.ERROR_REASON_FIELD_INVALID,
                field="edit.edit_id",
            ) from error

    def append(self, edit_id: str, event: refine_pb2.RefineResponse) -> None:
        """Keep one event, and what it says about the edit as a whole."""
        with self._open() as connection:
            row = (edit_id, event.sequence, event.SerializeToString())
            connection.execute("INSERT INTO events VALUES (?, ?, ?)", row)
            if event.HasField("candidate_finished"):
                connection.execute(
                    "UPDATE edits SET candidate_count = candidate_count + 1 WHERE edit_id = ?", (edit_id,)
                )
            if event.HasField("result"):
                overall = event.result.critique.scores.overall
                value = overall.value if overall.status == pb.SCORE_STATUS_SCORED else None
                connection.execute(
                    "UPDATE edits SET stop_reason = ?, overall = ? WHERE edit_id = ?",
                    (event.result.stop_reason, value, edit_id),
                )

    def request(self, edit_id: str) -> refine_pb2.RefineRequest:
        """What was asked for. Raises: NotFound."""
        with self._open() as connection:
            row = connection.execute("SELECT request FROM edits WHERE edit_id = ?", (edit_id,)).fetchone()
        if row is None:
            raise NotFound(
                f"there is no edit {edit_id!r} in the journal {self._path.name}",
                reason=pb.ERROR_REASON_EDIT_UNKNOWN,
            )
        return refine_pb2.RefineRequest.FromString(row[0])

    def events(self, edit_id: str) -> list[refine_pb2.RefineResponse]:
        """Every event of a run so far, in order; empty for an unknown edit."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT event FROM events WHERE edit_id = ? ORDER BY sequence", (edit_id,)
            ).fetchall()
        return [refine_pb2.RefineResponse.FromString(row[0]) for row in rows]

    def keep_previews(self, edit_id: str, learned_by: str, group: Group) -> None:
        """Keep what a run in which nobody was dropped tells of previews. learned_by: engine and critic, as one name."""
        learned = json.dumps(vars(group))
        with self._open() as connection:
            row = (edit_id, learned_by, learned)
            connection.execute("INSERT OR REPLACE INTO preview_groups VALUES (?, ?, ?)", row)

    def previews(self, learned_by: str) -> list[Group]:
        """The newest such groups of this engine and critic, at most 400."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT learned FROM preview_groups WHERE learned_by = ? ORDER BY rowid DESC LIMIT ?",
                (learned_by, _MAX_GROUPS),
            ).fetchall()
        kept = [json.loads(row[0]) for row in rows]
        return [
            Group(
                {float(share): scores for share, scores in each["previews"].items()},
                each["finals"],
                each.get("drafts", ()),
                each.get("rest", 1.0),
            )
            for each in kept
        ]

    def edits(self, page_size: int = 50, page_token: str = "") -> refine_pb2.ListEditsResponse:
        """A page of edits, newest first. Raises: InvalidInput for a page that cannot be."""
        if not 0 <= page_size <= _MAX_PAGE or not (page_token == "" or _PAGE_TOKEN.fullmatch(page_token)):
            raise InvalidInput(
                f"page_size {page_size}, page_token {page_token!r}: expected 0 to {_MAX_PAGE}, and the token of the "
                "answer before",
                reason=pb.ERROR_REASON_FIELD_INVALID,
                field="page_token",
            )
        size, start = page_size or 50, int(page_token or 0)
        with self._open() as connection:
            rows = connection.execute(
                "SELECT edit_id, prompt, started_unix_ms, stop_reason, overall, candidate_count FROM edits "
                "ORDER BY rowid DESC LIMIT ? OFFSET ?",
                (size + 1, start),
            ).fetchall()
        names = ("edit_id", "prompt", "started_unix_ms", "stop_reason", "overall", "candidate_count")
        summaries = [refine_pb2.EditSummary(**dict(zip(names, row, strict=True))) for row in rows[:size]]
        more = str(start + size) if len(rows) > size else ""
        return refine_pb2.ListEditsResponse(edits=summaries, next_page_token=more)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with (
            telling_of_full_disks(self._path),
            closing(sqlite3.connect(self._path, timeout=10)) as connection,
            connection,
        ):
            yield connection
