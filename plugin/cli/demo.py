"""`editcritic demo`: see what it does, on a photograph that comes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.cli.inputs import Server, connected
from editcritic.plugin.cli.results import write_results
from editcritic.plugin.cli.tables import ranking_table, reasons
from editcritic.plugin.cli.watching import judge_over_stream
from editcritic.plugin.demo import DEMO_CRITIC, make_demo
from editcritic.server import ranking as order
from editcritic.v1.images import decode_image, decode_mask

__all__ = ["demo"]


@command
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and report.")] = Path(
        "demo-out"
    ),
    server: Server = "",
) -> None:
    """Judge four answers to an edit of a real photograph; write a report."""
    shown = make_demo()
    with connected(server, [DEMO_CRITIC]) as client:
        outcomes = judge_over_stream(client, shown.edit, shown.candidates, DEMO_CRITIC, heat_map=True)
    ranking = order.rank(list(outcomes), list(outcomes.values()))
    stdout.print("A sticker on the table is to be removed. Four answers, best first:", markup=False)
    stdout.print(ranking_table(ranking), *reasons(ranking), sep="\n")
    report = write_results(out, shown.edit, shown.candidates, ranking)
    Image.fromarray(decode_image(shown.edit.source)).save(out / "source.png")
    mask = decode_mask(shown.edit.denoise_mask)
    Image.fromarray((mask * 255).astype("uint8")).save(out / "mask.png")
    for name, candidate in shown.candidates.items():
        (out / f"{name}.png").write_bytes(candidate.image.encoded.data)
    stdout.print(f"report: {report.resolve()}", markup=False, soft_wrap=True)
