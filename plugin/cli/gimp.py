"""`editcritic gimp`: what is open in GIMP 2.10, judged or edited."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.edit import edit as carry_out
from editcritic.plugin.cli.inputs import CriticName, Prompt, Server, connected
from editcritic.plugin.cli.tables import defect_table, score_table
from editcritic.plugin.client import make_edit
from editcritic.plugin.gimp.document import GimpImage, find_image
from editcritic.plugin.gimp.script_fu import DEFAULT_PORT, ScriptFu
from editcritic.plugin.overlay import heat_layer, heat_of
from editcritic.server.critics import DEFAULT_CRITIC, critic_name
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["gimp"]

gimp = typer.Typer(help="Judge and edit what is open in GIMP 2.10.", no_args_is_help=True)

_HEAT_OPACITY = 60.0
Port = Annotated[int, typer.Option(help="Port of GIMP's Script-Fu server on this machine.")]
Image_ = Annotated[str, typer.Option("--image", help="Name or number of the image; by default the only one.")]


@gimp.command("judge")
@command
def _judge(
    prompt: Prompt = "",
    critic: CriticName = "",
    server: Server = "",
    image: Image_ = "",
    port: Port = DEFAULT_PORT,
) -> None:
    """Judge the active layer as an edit of what is below it; the mask is the selection, or where the layer shows.

    Scores and reasons are printed; where the faults are becomes a layer.
    """
    with _opened(image, port) as (document, folder):
        if document.layer_count < 2:
            raise InvalidInput(
                "judging takes two layers: the edit on its own layer, the picture before it below."
            )
        source, edited, mask = (folder / f"{name}.png" for name in ("source", "edited", "mask"))
        document.save_pixels(source, without_active_layer=True)
        document.save_pixels(edited)
        document.save_selection(mask)
        with connected(server, [critic]) as client:
            critique = client.critique(
                make_edit(source, mask, prompt), edited, critic=critic_name(critic), heat_map=True
            )
        stdout.print(score_table(critique))
        if critique.defects:
            stdout.print(defect_table(critique))
        stdout.print(critique.explanation, markup=False)
        _add_heat(document, critique, edited, folder / "heat.png")


@gimp.command("edit")
@command
def _edit(
    prompt: Prompt = "",
    negative_prompt: Annotated[str, typer.Option(help="What is to be avoided.")] = "",
    engine: Annotated[
        str, typer.Option("--engine", "-e", help="tabletop, a diffusers pipeline folder, or a hub id.")
    ] = "tabletop",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Candidates to choose from.")] = 4,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the first; drawn without it.")] = None,
    rounds: Annotated[int, typer.Option(min=0, max=4, help="Repairs to try.")] = 2,
    critic: Annotated[str, typer.Option(help="Critic that judges.")] = DEFAULT_CRITIC,
    server: Server = "",
    journal: Annotated[
        Path | None, typer.Option(help="File of past edits; by default the user's own.")
    ] = None,
    image: Image_ = "",
    port: Port = DEFAULT_PORT,
) -> None:
    """Carry out an edit of the selection, as `editcritic edit` does; the result becomes a layer with a mask."""
    with _opened(image, port) as (document, folder):
        if not document.has_selection:
            raise InvalidInput("select what is to be edited, and try again.")
        source, mask, result = (folder / f"{name}.png" for name in ("source", "mask", "edit"))
        document.save_pixels(source)
        document.save_selection(mask)
        carry_out(
            source,
            mask,
            prompt,
            out=result,
            engine=engine,
            count=count,
            seed=seed,
            negative_prompt=negative_prompt,
            rounds=rounds,
            critic=critic,
            server=server,
            journal=journal,
        )
        document.add_layer(result, f"editcritic: {prompt}" if prompt else "editcritic", masked=True)
        stderr.print(f"the edit is a layer of {document.name}", markup=False)


@contextmanager
def _opened(name: str, port: int) -> Iterator[tuple[GimpImage, Path]]:
    """An image, and a folder that nobody else can look into, gone with the block."""
    with ScriptFu(port=port) as connection, tempfile.TemporaryDirectory(prefix="editcritic-") as folder:
        yield find_image(connection, name), Path(folder)


def _add_heat(document: GimpImage, critique: pb.Critique, edited: Path, path: Path) -> None:
    whole = next((each for each in critique.heat_maps if each.kind == pb.DEFECT_KIND_UNSPECIFIED), None)
    if whole is None:
        stderr.print("this critic drew no map")
        return
    with Image.open(edited) as picture:
        shape = (picture.height, picture.width)
    Image.fromarray(np.asarray(heat_layer(heat_of(whole, shape)))).save(path)
    path.chmod(0o600)
    overall = critique.scores.overall
    told = f"{overall.value:.0f}" if overall.status == pb.SCORE_STATUS_SCORED else "no score"
    document.add_layer(path, f"editcritic: {told}", opacity=_HEAT_OPACITY)
    stderr.print(f"where the faults are is a layer of {document.name}", markup=False)
