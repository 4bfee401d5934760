"""`editcritic bench`: speed, memory and cold start on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json

__all__ = ["bench"]


@command
def bench(
    repeats: Annotated[int, typer.Option(help="Measurements of each figure.")] = 20,
    critic: Annotated[str, typer.Option("--critic", help="Critic to measure.")] = "evidence",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the JSON to this file.")] = None,
    as_json_only: Json = False,
) -> None:
    """Measure the critic alone, over gRPC, from a cold start, and its memory."""
    from editcritic.plugin.benchmark import benchmark_rows, run_benchmark

    with stderr.status("measuring") as status:
        result = run_benchmark(repeats=repeats, progress=status.update, critic=critic)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json_only:
        stdout.print_json(json.dumps(result))
        return
    table = Table("figure", "value")
    for row in benchmark_rows(result):
        table.add_row(*row)
    stdout.print(table)
