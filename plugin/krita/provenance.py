"""What was edited and how it was judged: a record that goes with the document and beside exported pictures."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict, Optional

from .candidates import Board, Candidate
from .regions import Region

__all__ = ["ANNOTATION", "appended", "beside", "record_of"]

ANNOTATION = "editcritic"
"""Name of the document's annotation that holds the records; Krita saves it in the .kra."""

Json = Dict[str, Any]


def record_of(board: Board, candidate: Candidate, prompt: str, region: Region, layer: str) -> Json:
    """One edit: what was asked, what made it, who judged it and how."""
    critic = candidate.critique.get("critic", board.critic)
    return {
        "layer": layer,
        "prompt": prompt,
        "region": list(region),
        "edit_id": board.edit_id,
        "candidate_id": candidate.candidate_id,
        "origin": candidate.origin,
        "seed": candidate.seed,
        "engine": board.engine,
        "critic": {key: critic.get(key, "") for key in ("name", "version", "calibration")},
        "score": candidate.score,
        "reason": candidate.reason,
        "candidates": len(board),
        "applied": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def appended(text: str, record: Json) -> str:
    """The document's records with one more. text: as kept, may be empty; what is no list of records is replaced."""
    try:
        records = json.loads(text) if text else []
    except ValueError:
        records = []
    return json.dumps([*(records if isinstance(records, list) else []), record], ensure_ascii=True)


def beside(picture: Optional[str]) -> Optional[Path]:
    """Where the records of an exported picture go; None for a document without a file."""
    return Path(picture).with_suffix(".editcritic.json") if picture else None
