"""What people did with candidates, kept in SQLite for calibration to learn from."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.storage import telling_of_full_disks

__all__ = ["VerdictStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS verdicts (
    verdict_id TEXT PRIMARY KEY,
    edit_id TEXT NOT NULL,
    candidate_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    rating REAL,
    comment TEXT NOT NULL,
    other_candidate_ids TEXT NOT NULL,
    critique BLOB NOT NULL,
    recorded_unix_ms INTEGER NOT NULL
)
"""
_COLUMNS = "verdict_id, edit_id, candidate_id, kind, rating, comment, other_candidate_ids, critique"


class VerdictStore:
    """A file of verdicts. One connection for each call, so it may be used from any thread.

    Args:
        path: SQLite file; made with its folders when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection, connection:
            connection.execute(_SCHEMA)

    def record(self, verdict: pb.RecordVerdictRequest) -> bool:
        """Keep a verdict; False when its verdict_id was kept before, then nothing changes.

        Raises:
            Overloaded: the disk is full.
        """
        critique = pb.Critique()
        critique.CopyFrom(verdict.critique)
        # Maps are the larger part and can be made again.
        critique.ClearField("heat_maps")
        row = (
            verdict.verdict_id,
            verdict.edit_id,
            verdict.candidate_id,
            pb.VerdictKind.Name(verdict.kind),
            verdict.rating if verdict.HasField("rating") else None,
            verdict.comment,
            json.dumps(list(verdict.other_candidate_ids)),
            critique.SerializeToString(),
            time.time_ns() // 1_000_000,
        )
        with telling_of_full_disks(self._path), closing(self._connect()) as connection, connection:
            insert = "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            return connection.execute(insert, row).rowcount == 1

    def verdicts(self) -> Iterator[pb.RecordVerdictRequest]:
        """Everything kept, in the order in which it came."""
        with closing(self._connect()) as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM verdicts ORDER BY rowid")  # noqa: S608
            for verdict_id, edit_id, candidate_id, kind, rating, comment, others, critique in rows:
                yield pb.RecordVerdictRequest(
                    verdict_id=verdict_id,
                    edit_id=edit_id,
                    candidate_id=candidate_id,
                    kind=pb.VerdictKind.Value(kind),
                    rating=rating,
                    comment=comment,
                    other_candidate_ids=json.loads(others),
                    critique=pb.Critique.FromString(critique),
                )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=10)
