"""What is known of an engine's previews before a run: a table that was measured, the user's own journal, or caution."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from editcritic.refine.journal import RunJournal
from editcritic.refine.preview_table import PRIOR, PreviewTable, Rung, fit_table
from editcritic.refine.risk import with_audited_risk
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

__all__ = ["known_table", "pairing"]

_MEASURED = Path(__file__).with_name("preview_tables.json")


def pairing(engine: refine_pb2.EngineInfo, critic: pb.CriticIdentity) -> str:
    """Name of an engine with its scheduler and a critic with its version: what a table of previews holds for."""
    parts = (engine.name, engine.revision, engine.scheduler, critic.name, critic.version, critic.calibration)
    return " | ".join(parts)


def known_table(name: str, journal: RunJournal | None) -> PreviewTable:
    """The table of a pairing: the one that ships with the package or the cautious prior, and what the journal adds."""
    prior = _measured().get(name, PRIOR)
    if journal is None:
        return prior
    groups = journal.previews(name)
    return with_audited_risk(fit_table(groups, prior), groups)


@cache
def _measured() -> dict[str, PreviewTable]:
    tables = json.loads(_MEASURED.read_text(encoding="utf-8"))
    return {
        name: PreviewTable(
            tuple(Rung(**rung) for rung in table["rungs"]),
            table["group_count"],
            table["risk_scale"],
            Rung(**table["draft"]),
        )
        for name, table in tables.items()
    }
