"""A run of the loop as a table that grows: one row for each candidate and repair."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from editcritic.plugin.cli.tables import format_score
from editcritic.plugin.cli.time_left import TimeLeft
from editcritic.plugin.report_parts import enum_words
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.enums import value_name

__all__ = ["EditView", "decision_words"]

_BAR = 12


@dataclass
class _Row:
    name: str
    action: str
    fraction: float = 0.0
    preview: pb.Score = field(default_factory=pb.Score)
    final: pb.Score = field(default_factory=pb.Score)
    told: str = ""
    is_out: bool = False
    is_done: bool = False


class EditView:
    """Takes events, gives a table.

    Attributes:
        result: the last event's result, None before it.
        edit_id: name of the edit, known with the first event.
    """

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._time_left = TimeLeft()
        self.result: refine_pb2.RefineResult | None = None
        self.edit_id = ""

    def take(self, event: refine_pb2.RefineResponse) -> None:
        """Bring the table up to an event."""
        self._time_left.take(event)
        kind = event.WhichOneof("event")
        if kind is not None:
            getattr(self, f"_take_{kind}")(getattr(event, kind))

    def table(self) -> Table:
        """What is known until now, and how long it may still take."""
        table = Table(caption=self._time_left.words() or None, caption_justify="left")
        for label in ("", "candidate", "denoised", "preview", "overall"):
            table.add_column(
                label, no_wrap=True, justify="right" if label in ("preview", "overall") else "left"
            )
        table.add_column("", overflow="fold", ratio=1)
        for row in self._rows.values():
            done = round(_BAR * row.fraction)
            bar = Text("━" * done, "green") + Text("━" * (_BAR - done), "bright_black")
            chosen = self.result is not None and self.result.candidate_id == row.name
            table.add_row(
                "➤" if chosen else "",
                row.name,
                row.action or bar,
                "" if row.action else format_score(row.preview),
                format_score(row.final),
                Text(row.told),
                style="bright_black" if row.is_out else ("bold" if chosen else ""),
            )
        return table

    def _take_started(self, started: refine_pb2.RunStarted) -> None:
        self.edit_id = started.edit_id

    def _take_candidate_started(self, started: refine_pb2.CandidateStarted) -> None:
        action = (
            enum_words(value_name(pb.ActionKind, started.action), "ACTION_KIND_") if started.action else ""
        )
        self._rows[started.candidate_id] = _Row(started.candidate_id, action)

    def _take_preview(self, preview: refine_pb2.PreviewTaken) -> None:
        self._rows[preview.candidate_id].fraction = preview.progress.fraction

    def _take_critique(self, critique: pb.Critique) -> None:
        row = self._rows[critique.candidate_id]
        if critique.HasField("progress"):
            row.preview = critique.scores.overall
            return
        if row.final.status != pb.SCORE_STATUS_UNSPECIFIED:
            return  # the acceptance critic's, which comes after the other
        row.final, row.is_out = critique.scores.overall, False
        row.told = critique.explanation.split(". ")[0].rstrip(".")

    def _take_candidate_finished(self, finished: refine_pb2.CandidateFinished) -> None:
        row = self._rows[finished.candidate_id]
        row.fraction, row.is_done = 1.0, True

    def _take_candidate_error(self, error: pb.CandidateError) -> None:
        row = self._rows.get(error.candidate_id)
        if row is not None:
            row.told, row.is_out = error.status.message, True

    def _take_decision(self, decision: refine_pb2.Decision) -> None:
        if decision.kind == refine_pb2.DECISION_KIND_DROP:
            self._rows[decision.candidate_id].is_out = True
        if decision.kind == refine_pb2.DECISION_KIND_RECALL:
            self._rows[decision.candidate_id].is_out = False
        if decision.kind == refine_pb2.DECISION_KIND_ROLL_BACK:
            row = self._refused(decision.candidate_id)
            row.is_out, row.told = True, f"rolled back: {decision.reason}"

    def _refused(self, name: str) -> _Row:
        """The newest repair; of first answers, which have none that is still in, the one of that name."""
        newest = list(self._rows.values())[-1]
        return newest if newest.action and not newest.is_out else self._rows[name]

    def _take_result(self, result: refine_pb2.RefineResult) -> None:
        self.result = result


def decision_words(decision: refine_pb2.Decision) -> str:
    """A decision as a line of text."""
    kind = enum_words(value_name(refine_pb2.DecisionKind, decision.kind), "DECISION_KIND_")
    action = ""
    if decision.HasField("action"):
        action = " by " + enum_words(value_name(pb.ActionKind, decision.action.kind), "ACTION_KIND_")
    return f"{kind} {decision.candidate_id}{action}: {decision.reason}"
