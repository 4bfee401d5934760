"""What the journal says of one candidate, as JSON values without pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from editcritic.plugin.edit_report import Story
from editcritic.plugin.report_parts import DIMENSIONS, enum_words
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.enums import value_name

__all__ = ["candidate_facts", "run_facts", "score_values"]

Verdicts = Sequence[pb.RecordVerdictRequest]


def run_facts(events: Sequence[refine_pb2.RefineResponse]) -> dict[str, Any]:
    """Engine and critic of a run."""
    started = events[0].started if events else refine_pb2.RunStarted()
    critic = started.search_critic
    return {
        "engine": started.engine.name,
        "critic": {"name": critic.name, "version": critic.version, "calibration": critic.calibration},
    }


def candidate_facts(
    story: Story, events: Sequence[refine_pb2.RefineResponse], said: Verdicts
) -> dict[str, Any]:
    """How a candidate was made, what was found, decided and said of it.

    Args:
        story: of the candidate. events: of its run. said: verdicts on it.
    """
    started, critique = story.started, story.critique
    result = events[-1].result if events[-1].HasField("result") else None
    return {
        "candidate_id": started.candidate_id,
        "seed": started.seed,
        "parent": started.parent_candidate_id or None,
        "action": _words(value_name(pb.ActionKind, started.action), "ACTION_KIND_")
        if started.action
        else None,
        "steps": story.finished.evaluation_count if story.finished else None,
        "large_steps": story.finished.large_step_count if story.finished else None,
        "is_result": result is not None and result.candidate_id == started.candidate_id,
        "error": story.error or None,
        "scores": score_values(critique),
        "defects": [_defect(defect) for defect in critique.defects] if critique else [],
        "previews": [
            {
                "fraction": preview.progress.fraction,
                "is_draft": preview.is_draft,
                "scores": score_values(seen),
            }
            for preview, seen in story.previews
        ],
        "decisions": [_decision(decision) for decision in story.decisions],
        "verdicts": [_verdict(verdict) for verdict in said],
    }


def score_values(critique: pb.Critique | None) -> dict[str, dict[str, Any]]:
    """Each dimension's value and standard deviation, or why there is none; empty where nothing was judged."""
    if critique is None:
        return {}
    told: dict[str, dict[str, Any]] = {}
    for name, _ in DIMENSIONS:
        score: pb.Score = getattr(critique.scores, name)
        if score.status == pb.SCORE_STATUS_SCORED:
            told[name] = {"value": score.value, "stddev": score.stddev}
        elif score.status == pb.SCORE_STATUS_ABSTAINED:
            told[name] = {"abstained": score.abstention_detail}
    return told


def _defect(defect: pb.Defect) -> dict[str, Any]:
    box = defect.box
    kind = _words(value_name(pb.DefectKind, defect.kind), "DEFECT_KIND_")
    return {"kind": kind, "severity": defect.severity, "box": [box.x, box.y, box.width, box.height]}


def _decision(decision: refine_pb2.Decision) -> dict[str, Any]:
    told = {
        "kind": _words(value_name(refine_pb2.DecisionKind, decision.kind), "DECISION_KIND_"),
        "reason": decision.reason,
    }
    if decision.HasField("action"):
        told["action"] = _words(value_name(pb.ActionKind, decision.action.kind), "ACTION_KIND_")
    return told


def _verdict(verdict: pb.RecordVerdictRequest) -> dict[str, Any]:
    kind = _words(value_name(pb.VerdictKind, verdict.kind), "VERDICT_KIND_")
    rating = verdict.rating if verdict.HasField("rating") else None
    return {"kind": kind, "rating": rating, "comment": verdict.comment}


def _words(name: str, prefix: str) -> str:
    return enum_words(name, prefix).replace(" ", "_")
