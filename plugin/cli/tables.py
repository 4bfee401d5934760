"""Critiques as tables, as sentences and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.table import Table
from rich.text import Text

from editcritic.plugin.report_parts import DIMENSIONS, FAIR, GOOD, enum_words
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.enums import value_name

__all__ = [
    "as_json",
    "defect_table",
    "explanation_lines",
    "format_score",
    "ranking_table",
    "reasons",
    "score_table",
]


def score_table(critique: pb.Critique) -> Table:
    """One critique's scores, one a row; abstentions with their reason."""
    table = Table(title=f"{critique.critic.name} {critique.critic.version}", title_justify="left")
    table.add_column("dimension")
    table.add_column("score", justify="right")
    table.add_column("", overflow="fold")
    for field, label in DIMENSIONS:
        score: pb.Score = getattr(critique.scores, field)
        table.add_row(label, format_score(score), Text(score.abstention_detail, style="dim"))
    return table


def defect_table(critique: pb.Critique) -> Table:
    """One critique's defects, gravest first; the reasons stand in the explanation."""
    table = Table()
    for label in ("defect", "severity", "where", "what would mend it"):
        table.add_column(label, overflow="fold", justify="right" if label == "severity" else "left")
    for defect in critique.defects:
        box = defect.box
        table.add_row(
            enum_words(value_name(pb.DefectKind, defect.kind), "DEFECT_KIND_"),
            f"{defect.severity:.2f}",
            f"{box.width}x{box.height} at {box.x},{box.y}",
            ", ".join(
                enum_words(value_name(pb.ActionKind, each.kind), "ACTION_KIND_") for each in defect.actions
            ),
        )
    return table


def ranking_table(ranking: Sequence[pb.RankedCandidate]) -> Table:
    """Candidates from best to worst with their scores; narrow enough for a terminal of 80 columns."""
    table = Table()
    for label in ("", "candidate", "overall", "natural", "harmony", "preserved", "prompt"):
        table.add_column(label, justify="left" if label == "candidate" else "right", no_wrap=True)
    for entry in ranking:
        scores = entry.critique.scores
        shown = (
            scores.overall,
            scores.naturalness,
            scores.harmony,
            scores.preservation,
            scores.prompt_alignment,
        )
        place = str(entry.place) if entry.place else "–"
        table.add_row(place, entry.candidate_id, *map(format_score, shown))
    return table


def reasons(ranking: Sequence[pb.RankedCandidate]) -> Iterator[Text]:
    """One paragraph for each candidate: the gravest fault, or what was found instead."""
    for entry in ranking:
        told = entry.error.message or entry.critique.explanation
        if entry.critique.defects:
            told = entry.critique.defects[0].explanation
        yield Text.assemble((entry.candidate_id, "bold"), ": ", told)


def format_score(score: pb.Score) -> Text:
    """``83 ±2`` in the colour of its size, or a dash for an abstention."""
    if score.status != pb.SCORE_STATUS_SCORED:
        return Text("–", style="dim")
    style = "green" if score.value >= GOOD else "yellow" if score.value >= FAIR else "red"
    text = Text(f"{score.value:.0f}", style=style)
    return text.append(f" ±{score.stddev:.0f}", style="dim")


def explanation_lines(name: str, critique: pb.Critique) -> list[str]:
    """A critique as Markdown."""
    lines = [f"## {name}", "", critique.explanation, ""]
    for field, label in DIMENSIONS:
        score: pb.Score = getattr(critique.scores, field)
        told = (
            f"{score.value:.1f} ± {score.stddev:.1f}" if score.HasField("value") else score.abstention_detail
        )
        lines.append(f"- {label}: {told}")
    lines += ["", *(f"- {defect.explanation}" for defect in critique.defects), ""]
    identity = critique.critic
    lines.append(f"Critic {identity.name} {identity.version}. {identity.score_meaning}")
    return lines


def as_json(message: pb.Critique | pb.RankedCandidate) -> dict[str, Any]:
    """A message as JSON values under the contract's own field names, without pictures."""
    values: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    values.get("critique", values).pop("heat_maps", None)
    return values
