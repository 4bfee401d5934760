"""Judges candidates over one stream and shows how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from editcritic.plugin.cli.console import stderr
from editcritic.plugin.client import Client, make_candidate
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, ImageError, error_from_status

__all__ = ["judge_files", "judge_over_stream"]

Outcomes = dict[str, pb.Critique | EditCriticError]


def judge_files(
    client: Client, edit: pb.Edit, paths: Mapping[str, Path], critic: str, heat_map: bool
) -> tuple[dict[str, pb.Candidate], Outcomes]:
    """Judge candidate files; one that cannot be read fails alone.

    Returns:
        The candidates that could be read, and the outcome of each file, in their order.
    """
    candidates: dict[str, pb.Candidate] = {}
    outcomes: Outcomes = {}
    for name, path in paths.items():
        try:
            candidates[name] = make_candidate(path, name)
        except ImageError as error:
            outcomes[name] = error
    outcomes |= judge_over_stream(client, edit, candidates, critic, heat_map)
    return candidates, {name: _naming(path, outcomes[name]) for name, path in paths.items()}


def _naming(path: Path, outcome: pb.Critique | EditCriticError) -> pb.Critique | EditCriticError:
    """The outcome; an error with the file's name in it."""
    if isinstance(outcome, pb.Critique) or str(path) in outcome.message:
        return outcome
    return type(outcome)(f"{path}: {outcome.message}", reason=outcome.reason, field=outcome.field)


def judge_over_stream(
    client: Client, edit: pb.Edit, candidates: Mapping[str, pb.Candidate], critic: str, heat_map: bool
) -> Outcomes:
    """Open the edit, send every candidate, and collect the outcomes as they come.

    What was judged before the server went away for good is kept; the rest gets that error.

    Raises:
        EditCriticError: the edit was refused, or the server went away before anything was judged.
    """
    outcomes: Outcomes = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        Progress(*columns, console=stderr, transient=True) as progress,
        client.open_edit(edit, critic=critic, heat_map=heat_map) as stream,
    ):
        task = progress.add_task(f"judging with {stream.opened.critic.name}", total=len(candidates))
        edit.edit_id = stream.opened.edit_id
        for name, candidate in candidates.items():
            stream.candidate(name, candidate)
        try:
            for event in stream.finish():
                outcomes |= _outcome_of(event)
                progress.update(task, completed=len(outcomes))
        except EditCriticError as error:
            if not outcomes:
                raise
            return {name: outcomes.get(name, error) for name in candidates}
    return outcomes


def _outcome_of(event: pb.CritiqueStreamResponse) -> Outcomes:
    """The candidate that an event settles, with its outcome; nothing for other events."""
    if event.HasField("critique"):
        return {event.critique.candidate_id: event.critique}
    if event.HasField("candidate_error"):
        return {event.candidate_error.candidate_id: error_from_status(event.candidate_error.status)}
    return {}
