"""Where a picture comes from: what was edited, how it was judged, what was done. Plain data for a text output and for
the PNG, into which ComfyUI's nodes write whatever stands in `extra_pnginfo`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

from .judging import Batch, Outcome
from .telling import facts

__all__ = ["batch_provenance", "loop_provenance"]


def batch_provenance(
    batch: Batch, outcomes: Sequence[Outcome], order: Sequence[int], chosen: Sequence[int]
) -> dict[str, Any]:
    """Of pictures that were chosen from a batch. order, chosen: indices, best first."""
    return {
        **_edit(batch.sources[0], batch.masks[0], batch.prompt),
        "chosen": list(chosen),
        "order": list(order),
        "candidates": [facts(each) for each in outcomes],
    }


def loop_provenance(
    source: NDArray[np.uint8],
    mask: NDArray[np.float32],
    request: refine_pb2.RefineRequest,
    events: Sequence[refine_pb2.RefineResponse],
) -> dict[str, Any]:
    """Of a picture that the loop made: decisions with their reasons, and what it cost."""
    result, started = events[-1].result, events[0].started
    return {
        **_edit(source, mask, request.edit.prompt),
        "critic": _critic(started.search_critic),
        "acceptance": _critic(started.acceptance_critic),
        "seed": request.sampling.seed,
        "candidate": result.candidate_id,
        "verdict": facts(result.critique),
        "plain_score": round(result.plain_score, 2) if result.HasField("plain_score") else None,
        "stopped": refine_pb2.StopReason.Name(result.stop_reason).removeprefix("STOP_REASON_").lower(),
        "steps": result.evaluation_count,
        "saved_steps": result.saved_evaluation_count,
        "decisions": [_decision(each.decision) for each in events if each.HasField("decision")],
    }


def _edit(source: NDArray[np.uint8], mask: NDArray[np.float32], prompt: str) -> dict[str, Any]:
    height, width = source.shape[:2]
    return {
        "made_with": f"editcritic {_version()}",
        "prompt": prompt,
        "size": [width, height],
        "masked": round(float((mask > 0.5).mean()), 4),
        "source_sha256": hashlib.sha256(np.ascontiguousarray(source).tobytes()).hexdigest(),
    }


def _version() -> str:
    try:
        return metadata.version("editcritic")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _critic(critic: pb.CriticIdentity) -> str:
    return " ".join(part for part in (critic.name, critic.version, critic.calibration) if part)


def _decision(decision: refine_pb2.Decision) -> dict[str, Any]:
    kind = refine_pb2.DecisionKind.Name(decision.kind).removeprefix("DECISION_KIND_").lower()
    told: dict[str, Any] = {"what": kind, "candidate": decision.candidate_id, "why": decision.reason}
    if decision.HasField("action"):
        told["repair"] = pb.ActionKind.Name(decision.action.kind).removeprefix("ACTION_KIND_").lower()
    return told
