"""`editcritic history`: edits from before, and the report of one of them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.cli.edit import JournalPath
from editcritic.plugin.cli.edit_view import decision_words
from editcritic.plugin.cli.inputs import Json
from editcritic.plugin.editing import default_journal_path
from editcritic.plugin.report_parts import enum_words
from editcritic.v1 import refine_pb2

__all__ = ["history"]


@command
def history(
    edit_id: Annotated[str, typer.Argument(help="Name of one edit; without it, the newest are listed.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Edits to list.")] = 20,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the edited picture here.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the report of the edit here.")] = None,
    journal: JournalPath = None,
    as_json_only: Json = False,
) -> None:
    """List past edits, or show one and write its picture and report again."""
    from editcritic.refine.journal import Journal

    kept = Journal(journal or default_journal_path())
    if edit_id:
        _show(kept.request(edit_id), kept.events(edit_id), out, report, as_json_only)
        return
    edits = kept.edits(page_size=limit).edits
    if as_json_only:
        values = [MessageToDict(each, preserving_proto_field_name=True) for each in edits]
        stdout.print_json(json.dumps(values))
        return
    table = Table()
    for label in ("edit", "began", "prompt", "overall", "candidates", "ended"):
        table.add_column(label, overflow="fold")
    for each in edits:
        began = dt.datetime.fromtimestamp(each.started_unix_ms / 1000).strftime("%Y-%m-%d %H:%M")
        overall = f"{each.overall:.0f}" if each.HasField("overall") else "–"
        table.add_row(
            each.edit_id, began, each.prompt, overall, str(each.candidate_count), _ended(each.stop_reason)
        )
    stdout.print(table)


def _ended(reason: refine_pb2.StopReason.ValueType) -> str:
    if reason == refine_pb2.STOP_REASON_UNSPECIFIED:
        return "no: resume it"
    return enum_words(refine_pb2.StopReason.Name(reason), "STOP_REASON_")


def _show(
    request: refine_pb2.RefineRequest,
    events: list[refine_pb2.RefineResponse],
    out: Path | None,
    report: Path | None,
    as_json_only: bool,
) -> None:
    from editcritic.plugin.edit_report import write_edit_report

    result = events[-1].result if events and events[-1].HasField("result") else None
    if out is not None and result is not None:
        out.write_bytes(result.image.encoded.data)
    if report is not None:
        write_edit_report(report, request, events)
    decisions = [decision_words(event.decision) for event in events if event.HasField("decision")]
    if as_json_only:
        reason = result.stop_reason if result is not None else refine_pb2.STOP_REASON_UNSPECIFIED
        values = {"edit_id": request.edit.edit_id, "prompt": request.edit.prompt, "decisions": decisions}
        stdout.print_json(json.dumps(values | {"ended": _ended(reason), "events": len(events)}))
        return
    for line in decisions:
        stdout.print(line, markup=False)
    stdout.print(f"ended: {_ended(result.stop_reason) if result else 'no: resume it'}", markup=False)
