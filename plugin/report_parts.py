"""The report's pieces of text: scores, defects, figures. Everything that came from outside is escaped here."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import NewType

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.enums import value_name

__all__ = ["DIMENSIONS", "Markup", "critique_column", "enum_words", "escaped", "failure_text", "heading"]

Markup = NewType("Markup", str)
"""Text that is HTML already."""

DIMENSIONS = (
    ("overall", "overall"),
    ("visual_quality", "visual quality"),
    ("naturalness", "naturalness"),
    ("harmony", "harmony"),
    ("preservation", "preservation"),
    ("prompt_alignment", "prompt alignment"),
)
GOOD, FAIR = 85.0, 60.0


def escaped(text: object) -> Markup:
    """Text as HTML that shows it, in content and in quoted attributes."""
    return Markup(html.escape(str(text), quote=True))


def enum_words(name: str, prefix: str) -> str:
    """``DEFECT_KIND_FLAT_FILL`` as ``flat fill``."""
    return name.removeprefix(prefix).lower().replace("_", " ")


def heading(entry: pb.RankedCandidate) -> Markup:
    """Place, name and overall score."""
    place = f"<span class=place>{entry.place}</span>" if entry.place else ""
    overall = entry.critique.scores.overall
    number = f'<span class="overall {_grade(overall)}">{overall.value:.0f}</span>' if _has(overall) else ""
    return Markup(f"<div class=heading>{place}<h2>{escaped(entry.candidate_id)}</h2>{number}</div>")


def failure_text(entry: pb.RankedCandidate) -> Markup:
    """Why a candidate was not judged."""
    return Markup(f"<p class=bad>not judged</p><p>{escaped(entry.error.message or entry.reason)}</p>")


def critique_column(entry: pb.RankedCandidate, candidate: pb.Candidate) -> Markup:
    """Everything about one judged candidate that is words and numbers."""
    critique = entry.critique
    rows = "".join(_score_row(label, getattr(critique.scores, field)) for field, label in DIMENSIONS)
    defects = "".join(_defect(number, defect) for number, defect in enumerate(critique.defects, start=1))
    found = f"<h3>Faults</h3><ol class=defects>{defects}</ol>" if defects else ""
    seed = f"seed {candidate.seed}" if candidate.HasField("seed") else ""
    progress = f"{critique.progress.fraction:.0%} denoised" if critique.HasField("progress") else ""
    record = " · ".join(filter(None, (seed, progress)))
    return Markup(
        f"<table class=scores>{rows}</table><p>{escaped(critique.explanation)}</p>{found}"
        f"{_figures('All figures', critique.measurements)}<p class='soft small'>{record}</p>"
    )


def _has(score: pb.Score) -> bool:
    return score.status == pb.SCORE_STATUS_SCORED


def _grade(score: pb.Score) -> str:
    return "good" if score.value >= GOOD else "fair" if score.value >= FAIR else "bad"


def _score_row(label: str, score: pb.Score) -> Markup:
    if not _has(score):
        told = f"no score: {escaped(score.abstention_detail or 'not judged')}"
        return Markup(f"<tr><th scope=row>{label}<td colspan=2 class='soft small'>{told}</tr>")
    low, high = max(0.0, score.value - score.stddev), min(100.0, score.value + score.stddev)
    meter = (
        f'<div class="meter {_grade(score)}"><i style="width:{score.value:.1f}%"></i>'
        f'<b style="left:{low:.1f}%;width:{high - low:.1f}%"></b></div>'
    )
    number = f"{score.value:.0f} <span class='soft small'>± {score.stddev:.0f}</span>"
    return Markup(f"<tr><th scope=row>{label}<td>{meter}<td class=number>{number}</tr>")


def _defect(number: int, defect: pb.Defect) -> Markup:
    kind = enum_words(value_name(pb.DefectKind, defect.kind), "DEFECT_KIND_")
    actions = ", then ".join(_action(action) for action in defect.actions)
    mend = f"<p class='soft small'>Would mend it: {actions}.</p>" if actions else ""
    return Markup(
        f"<li><div class=name><span class=tag>{number}</span>{escaped(kind)}"
        f'<div class="meter severity" role=img aria-label="severity {defect.severity:.2f}">'
        f'<i style="width:{100 * defect.severity:.0f}%"></i></div></div>'
        f"<p>{escaped(defect.explanation)}</p>{mend}{_figures('Figures', defect.evidence)}</li>"
    )


def _action(action: pb.SuggestedAction) -> str:
    words = enum_words(value_name(pb.ActionKind, action.kind), "ACTION_KIND_")
    strength = f" at strength {action.strength:g}" if action.HasField("strength") else ""
    grow = f" by {action.grow_px} px" if action.HasField("grow_px") else ""
    return escaped(f"{words}{strength}{grow}")


def _figures(title: str, figures: Sequence[pb.Measurement]) -> Markup:
    if not figures:
        return Markup("")
    rows = "".join(_figure(each) for each in figures)
    head = "<tr><th>figure<th>here<th>elsewhere in the photograph<th>z</tr>"
    table = f"<div class=scroll><table class=figures>{head}{rows}</table></div>"
    return Markup(f"<details><summary>{title}</summary>{table}</details>")


def _figure(figure: pb.Measurement) -> Markup:
    reference = f"{figure.reference:.3g} ± {figure.spread:.2g}" if figure.HasField("reference") else "–"
    z_score = f"{figure.z_score:+.1f}" if figure.HasField("z_score") else "–"
    name = escaped(figure.name.replace("_", " "))
    return Markup(
        f"<tr><td>{name}<td>{figure.value:.3g} {escaped(figure.unit)}<td>{reference}<td>{z_score}</tr>"
    )
