"""`editcritic eval`: how well a critic does on your own photographs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json

__all__ = ["evaluate", "report_table"]


@command
def evaluate(
    images: Annotated[Path, typer.Option(help="Folder of photographs (PNG, JPEG, WebP).")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of object masks, <photo>_<anything>.png.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV with the columns file and split.")] = None,
    split: Annotated[str, typer.Option(help="Use only this split of the manifest.")] = "",
    limit: Annotated[int, typer.Option(help="Most photographs; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides masks, contents and faults.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    critic: Annotated[str, typer.Option("--critic", help="Critic to evaluate.")] = "evidence",
    as_json_only: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Measure a critic: false alarms on clean edits; order, detection and place of injected defects."""
    from editcritic.server.training.evaluation import evaluate as run

    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task(f"judging with {critic}", total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        report = run(
            critic,
            images,
            masks=masks,
            manifest=manifest,
            split=split,
            limit=limit,
            seed=seed,
            workers=workers,
            progress=on_progress,
        )
    if as_json_only:
        stdout.print_json(json.dumps(report.to_dict()))
    elif markdown:
        stdout.print(report.to_markdown(), markup=False, soft_wrap=True)
    else:
        stdout.print(report_table(report.columns, report.rows()))


def report_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A report as a table: one row for the clean controls and one for each injected defect."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table
