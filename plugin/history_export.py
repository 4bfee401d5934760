"""The journal as a data set: pictures as PNG, one line for each candidate, and tables of what people said.

::

    DIR/candidates.jsonl       one line for each candidate and repair: scores, previews, decisions, verdicts
    DIR/opinions.csv           candidates that a person judged; the layout `epaiqa` of `train instruct` and `opinions`
    DIR/pairs.csv              a candidate that was preferred and one passed over; the layout `edit-pairs`
    DIR/<edit>/source.png, mask.png, blend-mask.png, <candidate>.png

A critic's own scores are never written as opinions: a critic that learned from them would learn from itself.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.edit_report import stories_of
from editcritic.plugin.history_lines import Verdicts, candidate_facts, run_facts
from editcritic.refine.journal import Journal
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_image, decode_mask

__all__ = ["ExportedHistory", "export_history"]

_PAGE = 200
_TAKEN = {
    pb.VERDICT_KIND_ACCEPTED: 100.0,
    pb.VERDICT_KIND_PREFERRED: 100.0,
    pb.VERDICT_KIND_REJECTED: 0.0,
    pb.VERDICT_KIND_REVERTED: 0.0,
}
_OPINIONS = ("edited", "overall_quality", "source", "mask", "prompt", "edit_id", "candidate_id")
_PAIRS = ("edited", "better", "source", "mask", "prompt", "pair")


@dataclass
class ExportedHistory:
    """What was written: numbers of edits, of candidates with a picture, of opinions, of pairs."""

    edits: int = 0
    candidates: int = 0
    opinions: int = 0
    pairs: int = 0


@dataclass
class _Tables:
    lines: list[dict[str, Any]] = field(default_factory=list)
    opinions: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)


def export_history(
    journal: Journal, folder: Path, verdicts: Iterable[pb.RecordVerdictRequest]
) -> ExportedHistory:
    """Write every edit of a journal; what an earlier export wrote there is written again.

    Args:
        verdicts: what people did with candidates; those of other edits are left out.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_edit: dict[str, list[pb.RecordVerdictRequest]] = {}
    for verdict in verdicts:
        by_edit.setdefault(verdict.edit_id, []).append(verdict)
    done, used = ExportedHistory(), set[str]()
    with (folder / "candidates.jsonl").open("w", encoding="utf-8") as lines:
        opinions = _Table(folder / "opinions.csv", _OPINIONS)
        pairs = _Table(folder / "pairs.csv", _PAIRS)
        for edit_id in _edit_ids(journal):
            place = _free_name(edit_id, used)
            tables = _export_edit(journal, edit_id, folder, place, by_edit.get(edit_id, []))
            lines.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in tables.lines)
            opinions.add(tables.opinions)
            pairs.add(tables.pairs)
            done.edits += 1
            done.candidates += sum(line["image"] is not None for line in tables.lines)
        done.opinions, done.pairs = opinions.close(), pairs.close() // 2
    return done


class _Table:
    """A CSV that grows."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, columns)
        self._writer.writeheader()
        self._count = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._writer.writerows(rows)
        self._count += len(rows)

    def close(self) -> int:
        self._file.close()
        return self._count


def _edit_ids(journal: Journal) -> Iterator[str]:
    token = ""
    while True:
        page = journal.edits(_PAGE, token)
        yield from (edit.edit_id for edit in page.edits)
        token = page.next_page_token
        if not token:
            return


def _export_edit(journal: Journal, edit_id: str, folder: Path, place: str, verdicts: Verdicts) -> _Tables:
    request, events = journal.request(edit_id), journal.events(edit_id)
    edit, tables = request.edit, _Tables()
    (folder / place).mkdir(exist_ok=True)
    _save(decode_image(edit.source), folder / place / "source.png")
    for name, mask in (("mask", edit.denoise_mask), ("blend-mask", edit.blend_mask)):
        _save(np.round(decode_mask(mask) * 255).astype(np.uint8), folder / place / f"{name}.png")
    facts = {
        "edit_id": edit_id,
        "prompt": edit.prompt,
        "negative_prompt": edit.negative_prompt,
        "source": f"{place}/source.png",
        "mask": f"{place}/mask.png",
        "blend_mask": f"{place}/blend-mask.png",
    } | run_facts(events)
    used = {"source", "mask", "blend-mask"}
    for number, (name, story) in enumerate(stories_of(events).items()):
        image = None
        if story.finished is not None:
            image = f"{place}/{_free_name(name, used)}.png"
            _save(decode_image(story.finished.image), folder / image)
        said = [verdict for verdict in verdicts if verdict.candidate_id == name]
        tables.lines.append(
            facts | {"image": image, "is_plain": number == 0} | candidate_facts(story, events, said)
        )
    _add_opinions(tables, verdicts)
    return tables


def _add_opinions(tables: _Tables, verdicts: Verdicts) -> None:
    lines = {line["candidate_id"]: line for line in tables.lines if line["image"] is not None}
    for name, line in lines.items():
        marks = [_opinion(verdict) for verdict in verdicts if verdict.candidate_id == name]
        given = [mark for mark in marks if mark is not None]
        if given:
            row = {"overall_quality": fmean(given), "candidate_id": name, "edit_id": line["edit_id"]}
            tables.opinions.append(_row(line) | row)
    for verdict in verdicts:
        if verdict.kind != pb.VERDICT_KIND_PREFERRED or verdict.candidate_id not in lines:
            continue
        for other in verdict.other_candidate_ids:
            if other in lines and other != verdict.candidate_id:
                pair = f"{verdict.edit_id}/{verdict.candidate_id}/{other}"
                tables.pairs += [
                    _row(lines[name]) | {"better": better, "pair": pair}
                    for name, better in ((verdict.candidate_id, 1), (other, 0))
                ]


def _opinion(verdict: pb.RecordVerdictRequest) -> float | None:
    return verdict.rating if verdict.HasField("rating") else _TAKEN.get(verdict.kind)


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    return {"edited": line["image"], "source": line["source"], "mask": line["mask"], "prompt": line["prompt"]}


def _free_name(name: str, used: set[str]) -> str:
    """A file name for an identifier, which may hold anything; each once, also where case does not count."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".")[:64] or "_"
    free, number = safe, 2
    while free.lower() in used:
        free, number = f"{safe}-{number}", number + 1
    used.add(free.lower())
    return free


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(pixels).save(path)
