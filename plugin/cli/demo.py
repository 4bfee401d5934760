"""`editcritic demo`: see what it does, on a photograph that comes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.edit import held_out, judging, run_and_show, tell
from editcritic.plugin.cli.inputs import Server, connected
from editcritic.plugin.cli.results import write_results
from editcritic.plugin.cli.tables import ranking_table, reasons
from editcritic.plugin.cli.watching import judge_over_stream
from editcritic.plugin.demo import DEMO_CRITIC, DEMO_ENGINE, DEMO_PROMPT, demo_edit, make_demo
from editcritic.plugin.editing import make_refine_request
from editcritic.server import ranking as order
from editcritic.v1.images import decode_image, decode_mask

__all__ = ["demo"]

_SEED = 3


@command
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures and report.")] = Path(
        "demo-out"
    ),
    answers: Annotated[
        bool, typer.Option("--answers", help="Judge four ready-made answers instead; needs no engine.")
    ] = False,
    server: Server = "",
) -> None:
    """Carry out an edit of a real photograph; write picture and report."""
    out.mkdir(parents=True, exist_ok=True)
    if answers:
        _judge_answers(out, server)
    else:
        _carry_out(out, server)


def _carry_out(out: Path, server: str) -> None:
    from editcritic.plugin.edit_report import write_edit_report
    from editcritic.refine.engine import load_engine
    from editcritic.refine.journal import Journal
    from editcritic.refine.loop import Refinement
    from editcritic.refine.request import completed_request

    source, mask = demo_edit()
    Image.fromarray(source).save(out / "source.png")
    Image.fromarray((mask * 255).astype("uint8")).save(out / "mask.png")
    request = completed_request(
        make_refine_request(source, mask, DEMO_PROMPT, engine=DEMO_ENGINE, seed=_SEED, rounds=4)
    )
    stdout.print(f"A photograph of a table, a round mask, and the prompt: {DEMO_PROMPT}", markup=False)
    with stderr.status(f"opening {DEMO_ENGINE}"):
        engine = load_engine(DEMO_ENGINE, offline=True)
    journal = Journal(out / "journal.sqlite3")
    with judging(server, DEMO_CRITIC) as critic, judging(server, held_out("", DEMO_CRITIC, server)) as other:
        events = run_and_show(Refinement(engine, critic, request, journal, other))
    picture = out / "edit.png"
    picture.write_bytes(events[-1].result.image.encoded.data)
    tell(events, picture, write_edit_report(out / "report.html", request, events))


def _judge_answers(out: Path, server: str) -> None:
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
