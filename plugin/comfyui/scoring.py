"""What the judging nodes have in common: ask, show progress, send events."""

from __future__ import annotations

from typing import Any

from . import host
from .addresses import CriticAddress, connected
from .judging import Batch, Outcome, judge
from .telling import facts

__all__ = ["judge_with_progress", "shown"]


def judge_with_progress(
    batch: Batch, server: CriticAddress | None, node_id: str | None, **options: Any
) -> list[Outcome]:
    """Judge a batch; the node's bar moves and ``editcritic.critique`` is sent with each answer.

    Raises: EditCriticError when the edit is refused or no server answers, with what to do.
    """
    progress = host.Progress(len(batch.edited))

    def told(index: int, outcome: Outcome) -> None:
        host.send("critique", node_id, index=index, count=len(batch.edited), **facts(outcome))
        progress.step()

    with connected(server) as client:
        return judge(client, batch, told, **options)


def shown(text: str, badges: list[dict[str, Any]], result: tuple[Any, ...]) -> dict[str, Any]:
    """What a node returns: a text for the page and for other programs, badges for our page extension, its outputs."""
    return {"ui": {"text": [text], "editcritic": badges}, "result": result}
