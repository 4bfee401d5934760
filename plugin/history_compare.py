"""Two edits side by side: what was asked for, what came of it, dimension by dimension, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from editcritic.plugin.report import Before, Stage, candidate_card, footer, page
from editcritic.plugin.report_parts import DIMENSIONS, Markup, enum_words, escaped
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.enums import value_name
from editcritic.v1.images import decode_image

__all__ = ["KeptEdit", "decisions_of", "fact_rows", "score_rows", "write_comparison"]


@dataclass(frozen=True)
class KeptEdit:
    """An edit of the journal: what was asked for, and every event."""

    request: refine_pb2.RefineRequest
    events: Sequence[refine_pb2.RefineResponse]

    @property
    def name(self) -> str:
        """Of the edit."""
        return self.request.edit.edit_id

    @property
    def started(self) -> refine_pb2.RunStarted:
        """How the run began; empty when it did not."""
        return self.events[0].started if self.events else refine_pb2.RunStarted()

    @property
    def result(self) -> refine_pb2.RefineResult:
        """What it handed back; empty when it has not ended."""
        return self.events[-1].result if self.events else refine_pb2.RefineResult()


def fact_rows(edits: Sequence[KeptEdit]) -> list[tuple[str, list[str]]]:
    """A label and a text of each edit."""
    return [
        ("prompt", [edit.request.edit.prompt or "– (a removal)" for edit in edits]),
        ("engine", [edit.started.engine.name for edit in edits]),
        ("critic", [_critic(edit) for edit in edits]),
        ("first seed", [str(edit.started.sampling.seed) for edit in edits]),
        (
            "answers and repairs",
            [str(sum(e.HasField("candidate_finished") for e in edit.events)) for edit in edits],
        ),
        ("denoising steps", [str(edit.result.evaluation_count) for edit in edits]),
        ("seconds", [f"{edit.events[-1].elapsed_ms / 1000:.1f}" if edit.events else "–" for edit in edits]),
        ("handed back", [edit.result.candidate_id or "–" for edit in edits]),
        ("ended", [_ended(edit) for edit in edits]),
    ]


def score_rows(first: KeptEdit, second: KeptEdit) -> list[tuple[str, pb.Score, pb.Score, str]]:
    """Each dimension: its name, both scores, and how much the second is above the first ("" where one has none).

    There is no difference between the numbers of two critics: they mean different things.
    """
    comparable = _critic(first) == _critic(second)
    rows = []
    for field, label in DIMENSIONS:
        one: pb.Score = getattr(first.result.critique.scores, field)
        two: pb.Score = getattr(second.result.critique.scores, field)
        both = pb.SCORE_STATUS_SCORED == one.status == two.status
        rows.append((label, one, two, f"{two.value - one.value:+.1f}" if comparable and both else ""))
    return rows


def decisions_of(edit: KeptEdit) -> list[refine_pb2.Decision]:
    """Every decision of a run, in order."""
    return [event.decision for event in edit.events if event.HasField("decision")]


def write_comparison(path: Path, first: KeptEdit, second: KeptEdit) -> Path:
    """Write one self-contained page with both results, their maps, scores and decisions.

    Raises:
        ImageError: a picture cannot be decoded.
        OSError: the file cannot be written.
    """
    same = first.request.edit.source == second.request.edit.source
    before: Before | None = None
    if same and first.result.HasField("image"):
        before = (first.name, decode_image(first.result.image))
    parts = [Markup("<h1>Two edits</h1>"), _table(first, second), _card(first, None), _card(second, before)]
    body = "".join([*parts, footer(second.request.edit)])
    path.write_text(page(escaped("editcritic: two edits"), body), encoding="utf-8")
    return path


def _critic(edit: KeptEdit) -> str:
    critic = edit.result.critique.critic if edit.result.HasField("critique") else edit.started.search_critic
    return " ".join(filter(None, (critic.name, critic.version, critic.calibration)))


def _ended(edit: KeptEdit) -> str:
    reason = edit.result.stop_reason
    return (
        enum_words(value_name(refine_pb2.StopReason, reason), "STOP_REASON_") if reason else "no: resume it"
    )


def _table(first: KeptEdit, second: KeptEdit) -> Markup:
    names = "".join(f"<th scope=col>{escaped(edit.name)}" for edit in (first, second))
    head = f"<tr><th scope=col>{names}<th scope=col>change</tr>"
    facts = "".join(
        f"<tr><th scope=row>{escaped(label)}<td>{escaped(one)}<td>{escaped(two)}<td></tr>"
        for label, (one, two) in fact_rows([first, second])
    )
    scores = "".join(
        f"<tr><th scope=row>{escaped(label)}<td>{_number(one)}<td>{_number(two)}<td>{escaped(change)}</tr>"
        for label, one, two, change in score_rows(first, second)
    )
    return Markup(
        f"<section class=card><h2>Side by side</h2><table class=scores>{head}{facts}{scores}</table></section>"
    )


def _number(score: pb.Score) -> str:
    return f"{score.value:.1f} ±{score.stddev:.1f}" if score.status == pb.SCORE_STATUS_SCORED else "–"


def _card(edit: KeptEdit, before: Before | None) -> Markup:
    """One result under its own name: two edits may call their candidates the same."""
    result = edit.result
    entry = pb.RankedCandidate(candidate_id=f"{edit.name}/{result.candidate_id or 'source'}")
    decisions = "".join(f"<li>{escaped(_told(each))}" for each in decisions_of(edit))
    told = Markup(f"<h3>Decisions</h3><ol>{decisions}</ol>" if decisions else "")
    if result.HasField("critique"):
        entry.critique.CopyFrom(result.critique)
    else:
        entry.error.message = "the run has not ended"
    candidate = pb.Candidate(candidate_id=entry.candidate_id, image=result.image)
    return candidate_card(entry, candidate, Stage(edit.request.edit), extra=told, before=before)


def _told(decision: refine_pb2.Decision) -> str:
    kind = enum_words(value_name(refine_pb2.DecisionKind, decision.kind), "DECISION_KIND_")
    return f"{kind} {decision.candidate_id}: {decision.reason}"
