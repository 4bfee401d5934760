"""`editcritic history`: edits from before, the report of one, two side by side, and all of them as a data set."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from google.protobuf.json_format import MessageToDict
from rich.table import Table
from rich.text import Text

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.cli.edit import JournalPath
from editcritic.plugin.cli.edit_view import decision_words
from editcritic.plugin.cli.inputs import Json
from editcritic.plugin.cli.tables import format_score
from editcritic.plugin.editing import default_journal_path
from editcritic.plugin.report_parts import enum_words
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.enums import value_name
from editcritic.v1.errors import InvalidInput

if TYPE_CHECKING:
    from editcritic.refine.journal import Journal

__all__ = ["history"]


@command
def history(
    edit_id: Annotated[str, typer.Argument(help="Name of one edit; without it, the newest are listed.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Edits to list.")] = 20,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the edited picture here.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report of the edit, or of the comparison, here.")
    ] = None,
    compare: Annotated[
        tuple[str, str], typer.Option("--compare", help="Names of two edits to show side by side.")
    ] = ("", ""),
    export: Annotated[
        Path | None, typer.Option("--export", help="Write every edit as a data set into this folder.")
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option("--verdicts", help="For --export: a server's verdicts; by default the user's own."),
    ] = None,
    journal: JournalPath = None,
    as_json_only: Json = False,
) -> None:
    """List past edits, show one or two of them, or write all as a data set."""
    from editcritic.refine.journal import Journal

    kept = Journal(journal or default_journal_path())
    if sum((bool(edit_id), any(compare), export is not None)) > 1:
        raise InvalidInput("an edit's name, --compare and --export are three things: give one of them")
    if export is not None:
        _export(kept, export, verdicts, as_json_only)
        return
    if any(compare):
        _compare(kept, compare, report, as_json_only)
        return
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


def _export(kept: Journal, folder: Path, verdicts: Path | None, as_json_only: bool) -> None:
    from editcritic.plugin.history_export import export_history
    from editcritic.server.settings import default_verdicts_path
    from editcritic.server.verdicts import VerdictStore

    file = verdicts or default_verdicts_path()
    if verdicts is not None and not verdicts.is_file():
        raise InvalidInput(f"there is no file of verdicts at {verdicts}")
    try:
        done = export_history(kept, folder, VerdictStore(file).verdicts() if file.is_file() else ())
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"{file} is no file of verdicts: {error}") from error
    if as_json_only:
        stdout.print_json(json.dumps(dataclasses.asdict(done) | {"folder": str(folder)}))
        return
    stdout.print(
        f"{done.edits} edits, {done.candidates} candidates, {done.opinions} opinions, {done.pairs} pairs: {folder}",
        markup=False,
        soft_wrap=True,
    )


def _compare(kept: Journal, names: tuple[str, str], report: Path | None, as_json_only: bool) -> None:
    from editcritic.plugin.history_compare import (
        KeptEdit,
        decisions_of,
        fact_rows,
        score_rows,
        write_comparison,
    )

    first, second = (KeptEdit(kept.request(name), kept.events(name)) for name in names)
    if report is not None:
        write_comparison(report, first, second)
    if as_json_only:
        values = {
            "facts": dict(fact_rows([first, second])),
            "scores": {label: [_value(one), _value(two)] for label, one, two, _ in score_rows(first, second)},
            "decisions": [[decision_words(each) for each in decisions_of(edit)] for edit in (first, second)],
        }
        stdout.print_json(json.dumps(values))
        return
    table = Table()
    for label in ("", *names, "change"):
        table.add_column(Text(label), overflow="fold", justify="right" if label == "change" else "left")
    for label, texts in fact_rows([first, second]):
        table.add_row(label, *map(Text, texts), "")
    table.add_section()
    for label, one, two, change in score_rows(first, second):
        table.add_row(label, format_score(one), format_score(two), change)
    table.add_section()
    told = ["\n".join(map(decision_words, decisions_of(edit))) for edit in (first, second)]
    table.add_row("decisions", *map(Text, told), "")
    stdout.print(table)
    if report is not None:
        stdout.print(f"report: {report}", markup=False, soft_wrap=True)


def _value(score: pb.Score) -> float | None:
    return score.value if score.status == pb.SCORE_STATUS_SCORED else None


def _ended(reason: refine_pb2.StopReason.ValueType) -> str:
    if reason == refine_pb2.STOP_REASON_UNSPECIFIED:
        return "no: resume it"
    return enum_words(value_name(refine_pb2.StopReason, reason), "STOP_REASON_")


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
