"""The loop inside a node: its events become progress, previews and events of ours, and an interrupt ends it at once."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import closing
from typing import Any

from editcritic.plugin.client import Client
from editcritic.refine.loop import Refinement
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput, error_from_status

from . import host
from .engine import ComfyEngine
from .judging import StreamCritic
from .telling import facts

__all__ = ["acceptance_critic", "check_installed", "decision_name", "run_loop", "story"]

_HELD_OUT = "evidence"
_NEEDED = ("scipy", "skimage")  # by repairs; torch and SciPy are ComfyUI's own


def acceptance_critic(client: Client, asked: str, critic: str) -> str:
    """Name of the critic that has to agree; empty for none. asked: a name, "none", or "auto" for the measuring one
    where the server has it and another steers."""
    if asked != "auto":
        return "" if asked in ("none", critic) else asked
    names = [each.identity.name for each in client.list_critics().critics]
    steering = critic or names[0]
    return _HELD_OUT if _HELD_OUT in names and steering != _HELD_OUT else ""


def check_installed() -> None:
    """Raises: InvalidInput with the command to run, when what repairs need is not in ComfyUI's Python."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidInput(
            f"repairs need {', '.join(missing)}, which ComfyUI's Python does not have. Install it:"
            f" {sys.executable} -m pip install 'editcritic[comfyui]'"
        )


def run_loop(
    client: Client,
    engine: ComfyEngine,
    request: refine_pb2.RefineRequest,
    critic: str,
    acceptance: str,
    node_id: str | None,
) -> list[refine_pb2.RefineResponse]:
    """All events of a run; the last one is the result.

    request: as `completed_request` gives it. Raises: EditCriticError when every candidate failed or no server answers;
    ComfyUI's own when the run is cancelled.
    """
    other = StreamCritic(client, acceptance) if acceptance else None
    loop = Refinement(engine, StreamCritic(client, critic), request, None, other)
    events = []
    with closing(loop.run()) as steps:  # type: ignore[type-var]
        for event in steps:
            events.append(event)
            _tell(event, node_id)
            host.check_interrupted()
    result = events[-1].result
    if result.stop_reason == refine_pb2.STOP_REASON_FAILED:
        raise error_from_status(result.error)
    return events


def _tell(event: refine_pb2.RefineResponse, node_id: str | None) -> None:
    if event.HasField("critique"):
        told = facts(event.critique)
        is_preview = event.critique.HasField("progress")
        share = event.critique.progress.fraction if is_preview else 1.0
        host.send("critique", node_id, candidate=event.critique.candidate_id, fraction=share, **told)
    elif event.HasField("decision"):
        told = {"what": decision_name(event.decision), "candidate": event.decision.candidate_id}
        host.send("decision", node_id, reason=event.decision.reason, **told)


def decision_name(decision: refine_pb2.Decision) -> str:
    """Of a decision: "drop", "select", "repair" ..."""
    return (
        refine_pb2.DecisionKind.Name(decision.kind).removeprefix("DECISION_KIND_").lower().replace("_", " ")
    )


def story(events: list[refine_pb2.RefineResponse]) -> list[str]:
    """The run in lines for people: scores of finished candidates, and every decision with its reason."""
    lines = []
    for event in events:
        if event.HasField("critique") and not event.critique.HasField("progress"):
            told: dict[str, Any] = facts(event.critique)
            figure = "no score" if told["score"] is None else f"{told['score']:.0f}/100"
            lines.append(f"{event.critique.candidate_id}: {figure} ({event.critique.critic.name})")
        elif event.HasField("decision"):
            decision = event.decision
            lines.append(f"{decision_name(decision)} {decision.candidate_id}: {decision.reason}")
        elif event.HasField("candidate_error"):
            failed = event.candidate_error
            lines.append(f"{failed.candidate_id} failed: {failed.status.message}")
    return lines
