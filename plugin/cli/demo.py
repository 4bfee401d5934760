"""`editcritic demo`: see what it does, on a photograph that comes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Server, connected
from editcritic.plugin.cli.results import write_results
from editcritic.plugin.cli.tables import ranking_table, reasons
from editcritic.plugin.cli.watching import judge_over_stream
from editcritic.plugin.demo import DEMO_CRITIC, DEMO_ENGINE, Demo, make_demo, produced_candidates
from editcritic.refine.engine import load_engine
from editcritic.server import ranking as order
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_image, decode_mask

__all__ = ["demo"]

_SEEDS = (1, 2)


@command
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and report.")] = Path(
        "demo-out"
    ),
    server: Server = "",
) -> None:
    """Judge made and denoised answers to an edit of a real photograph; write a report."""
    shown = make_demo()
    candidates = {**shown.candidates, **_produced(shown)}
    with connected(server, [DEMO_CRITIC]) as client:
        outcomes = judge_over_stream(client, shown.edit, candidates, DEMO_CRITIC, heat_map=True)
    ranking = order.rank(list(outcomes), list(outcomes.values()))
    text = f"A sticker on the table is to be removed. {len(candidates)} answers, best first:"
    stdout.print(text, markup=False)
    stdout.print(ranking_table(ranking), *reasons(ranking), sep="\n")
    report = write_results(out, shown.edit, candidates, ranking)
    Image.fromarray(decode_image(shown.edit.source)).save(out / "source.png")
    mask = decode_mask(shown.edit.denoise_mask)
    Image.fromarray((mask * 255).astype("uint8")).save(out / "mask.png")
    for name, candidate in candidates.items():
        (out / f"{name}.png").write_bytes(candidate.image.encoded.data)
    stdout.print(f"report: {report.resolve()}", markup=False, soft_wrap=True)


def _produced(shown: Demo) -> dict[str, pb.Candidate]:
    """What the embedded engine makes of the edit; nothing, with a word on it, where engines are not installed."""
    try:
        with stderr.status(f"opening {DEMO_ENGINE}") as status:
            return produced_candidates(shown, load_engine(DEMO_ENGINE), _SEEDS, status.update)
    except InvalidInput as error:
        stderr.print(f"without candidates of an engine: {error}", markup=False)
        return {}
