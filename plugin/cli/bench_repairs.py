"""`editcritic bench repairs`: what each repair without diffusion is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json

__all__ = ["bench_repairs"]

_COLUMNS = (
    "repair",
    "fault",
    "judge",
    "cases",
    "rises",
    "gain",
    "harmed",
    "called for",
    "rises",
    "harmed",
    "ms",
)


@command
def bench_repairs(
    images: Annotated[Path, typer.Option("--images", help="Folder of photographs (PNG, JPEG, WebP).")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Photographs.")] = 100,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of object masks, <photo>_<anything>.png.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV with the columns file and split.")] = None,
    split: Annotated[str, typer.Option(help="Use only this split of the manifest.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides masks, contents, faults and severities.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the JSON to this file.")] = None,
    as_json_only: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Put faults into perfect answers, mend them, and have the critic judge that did not ask for the repair."""
    from editcritic.plugin.repair_benchmark import measure_repairs, repair_rows

    with stderr.status("measuring") as status:
        trials = measure_repairs(
            images,
            count=count,
            masks=masks,
            manifest=manifest,
            split=split,
            seed=seed,
            progress=status.update,
        )
    rows = repair_rows(trials)
    if out is not None:
        out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if as_json_only:
        stdout.print_json(json.dumps(rows))
    elif markdown:
        lines = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_cells, rows)]
        stdout.print("\n".join(f"| {' | '.join(cells)} |" for cells in lines), soft_wrap=True, markup=False)
    else:
        table = Table(*_COLUMNS)
        for row in rows:
            table.add_row(*_cells(row))
        stdout.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    every, called = row["all"], row["called_for"]
    told = [str(called["cases"]), _percent(called["rises"]), _percent(called["harmed"])]
    return [
        row["repair"].replace("_", " "),
        row["fault"].replace("_", " "),
        row["judge"],
        str(every["cases"]),
        _percent(every["rises"]),
        f"{every['gain']:+.1f}",
        _percent(every["harmed"]),
        *(told if called["cases"] else ["0", "–", "–"]),
        f"{row['ms']:.0f}",
    ]


def _percent(share: dict[str, Any]) -> str:
    return f"{100 * share['value']:.0f} %"
