"""`editcritic rank`: many candidates, best first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from editcritic.plugin.cli.console import PARTLY, command, fail, naming_files, stderr, stdout
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
from editcritic.plugin.cli.tables import as_json, ranking_table, reasons
from editcritic.plugin.cli.watching import judge_files
from editcritic.server import ranking as order
from editcritic.server.critics import critic_name

__all__ = ["rank"]


@command
def rank(
    source: Source,
    mask: Mask,
    candidate: Annotated[
        list[Path], typer.Option("--candidate", "-c", help="An edited picture; give several.")
    ],
    blend_mask: BlendMask = None,
    prompt: Prompt = "",
    server: Server = "",
    critic: CriticName = "",
    out: Folder = None,
    as_json_only: Json = False,
) -> None:
    """Order candidates from best to worst, with reasons."""
    files = EditFiles(source, mask, blend_mask, prompt)
    edit, paths = files.edit(), name_candidates(candidate)
    with connected(server, [critic]) as client, naming_files(files.by_field()):
        candidates, outcomes = judge_files(client, edit, paths, critic_name(critic), heat_map=out is not None)
    ranking = order.rank(list(outcomes), list(outcomes.values()))
    if as_json_only:
        stdout.print_json(json.dumps([as_json(entry) for entry in ranking]))
    else:
        stdout.print(ranking_table(ranking), *reasons(ranking), sep="\n")
    if out is not None:
        report = write_results(out, edit, candidates, ranking)
        stderr.print(f"report: {report}", markup=False)
    failed = sum(entry.HasField("error") for entry in ranking)
    if failed:
        fail(f"{failed} of {len(ranking)} candidates could not be judged", PARTLY)
