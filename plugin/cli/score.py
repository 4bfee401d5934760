"""`editcritic score`: one candidate in detail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from editcritic.plugin.cli.console import BELOW, command, fail, naming_files, stderr, stdout
from editcritic.plugin.cli.inputs import (
    BlendMask,
    CriticName,
    EditFiles,
    Folder,
    Json,
    Mask,
    Prompt,
    Server,
    Source,
    connected,
    name_candidates,
)
from editcritic.plugin.cli.results import write_results
from editcritic.plugin.cli.tables import as_json, defect_table, score_table
from editcritic.plugin.client import make_candidate
from editcritic.server.critics import critic_name
from editcritic.v1 import critic_pb2 as pb

__all__ = ["score"]


@command
def score(
    source: Source,
    mask: Mask,
    candidate: Annotated[Path, typer.Option("--candidate", "-c", help="The edited picture.")],
    blend_mask: BlendMask = None,
    prompt: Prompt = "",
    server: Server = "",
    critic: CriticName = "",
    out: Folder = None,
    as_json_only: Json = False,
    fail_under: Annotated[
        float | None, typer.Option(help="End with 5 when the overall score is below this (0 to 100).")
    ] = None,
) -> None:
    """Judge one candidate: scores, defects, reasons."""
    files = EditFiles(source, mask, blend_mask, prompt)
    edit, (name,) = files.edit(), name_candidates([candidate])
    message = make_candidate(candidate, name)
    with connected(server, [critic]) as client, naming_files({**files.by_field(), "image": candidate}):
        critique = client.critique(edit, message, critic=critic_name(critic), heat_map=out is not None)
    if as_json_only:
        stdout.print_json(json.dumps(as_json(critique)))
    else:
        _show(critique)
    if out is not None:
        entry = pb.RankedCandidate(candidate_id=name, place=1, critique=critique, reason=critique.explanation)
        report = write_results(out, edit, {name: message}, [entry])
        stderr.print(f"report: {report}", markup=False)
    _check_threshold(critique, fail_under)


def _show(critique: pb.Critique) -> None:
    """Print one critique for people."""
    stdout.print(score_table(critique))
    if critique.defects:
        stdout.print(defect_table(critique))
    stdout.print(critique.explanation, markup=False)


def _check_threshold(critique: pb.Critique, fail_under: float | None) -> None:
    """End the command with its own exit code when the overall score is too low, or was not given."""
    if fail_under is None:
        return
    overall = critique.scores.overall
    if overall.status != pb.SCORE_STATUS_SCORED:
        fail(f"no overall score: {overall.abstention_detail}", BELOW)
    if overall.value < fail_under:
        fail(f"overall {overall.value:.1f} is below {fail_under:g}", BELOW)
