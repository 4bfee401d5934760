"""`editcritic bench client`: what an editor's Python has to carry."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.cli.inputs import Json

__all__ = ["bench_client"]


@command
def bench_client(
    rounds: Annotated[int, typer.Option(min=1, help="Fresh interpreters.")] = 7,
    as_json_only: Json = False,
) -> None:
    """Measure the client's import, and the disk that it takes with its dependencies."""
    from editcritic.plugin.client_benchmark import measure_client

    found = measure_client(rounds)
    if as_json_only:
        stdout.print_json(json.dumps(found))
        return
    table = Table("figure", "value")
    table.add_row("import, median", f"{found['import_s']:.2f} s")
    table.add_row("model libraries loaded", ", ".join(found["heavy_modules"]) or "none")
    table.add_row("own modules", f"{found['own_bytes'] / 1e6:.2f} MB")
    for name, size in found["dependency_bytes"].items():
        table.add_row(name, f"{size / 1e6:.1f} MB")
    stdout.print(table)
