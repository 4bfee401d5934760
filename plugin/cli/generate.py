"""`editcritic generate`: candidates of an edit, with previews, as files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from editcritic.plugin.cli.console import FAULT, PARTLY, command, fail, naming_files, stderr, stdout
from editcritic.plugin.cli.inputs import (
    BlendMask,
    CriticGuidance,
    EngineQuality,
    Json,
    Mask,
    Prompt,
    QualityGuidance,
    Source,
)

__all__ = ["generate"]

_PREVIEWS = "0.25,0.5,0.75"


@command
def generate(
    source: Source,
    mask: Mask,
    blend_mask: BlendMask = None,
    prompt: Prompt = "",
    engine: Annotated[
        str, typer.Option("--engine", "-e", help="tabletop, a diffusers pipeline folder, or a hub id.")
    ] = "tabletop",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Candidates to produce.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the others count on from it.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps of each.")] = None,
    strength: Annotated[float | None, typer.Option(help="Above 0, at most 1: how much is redrawn.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the prompt is followed.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What is to be avoided.")] = "",
    engine_quality: EngineQuality = None,
    quality_guidance: QualityGuidance = 0,
    critic_guidance: CriticGuidance = 0,
    previews: Annotated[
        str, typer.Option(help="Shares of the steps at which a preview is written; empty for none.")
    ] = _PREVIEWS,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures.")] = Path("candidates"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    offload: Annotated[str, typer.Option(help="Save GPU memory: none, model or sequential.")] = "none",
    offline: Annotated[bool, typer.Option(help="Never ask the hub.")] = False,
    as_json_only: Json = False,
) -> None:
    """Produce candidates of an edit: pictures, previews, a contact sheet."""
    shares = _shares(previews)
    from editcritic.plugin.generation import generate_files, read_edit
    from editcritic.plugin.steering import steerable
    from editcritic.refine.engine import GenerationEvent, load_engine
    from editcritic.refine.quality_options import QualityOptions

    with naming_files({"source": source, "mask": mask, "blend_mask": blend_mask}):
        picture, marked, blended = read_edit(source, mask, blend_mask)
    with stderr.status(f"opening {engine}"):
        opened = steerable(
            load_engine(engine, device=device, dtype=dtype, offload=offload, offline=offline)  # type: ignore[arg-type]
        )
    seeds = range(seed, seed + count)
    options: dict[str, Any] = {
        "steps": steps,
        "strength": strength,
        "guidance": guidance,
        "negative_prompt": negative_prompt,
        "blend_mask": blended,
        "quality": QualityOptions(engine_quality, quality_guidance, critic_guidance),
    }
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=stderr, transient=True) as progress,
        warnings.catch_warnings(),
        naming_files({"source": source, "mask": mask, "blend_mask": blend_mask}),
    ):
        warnings.simplefilter("ignore")  # a candidate's notes say the same, once
        task = progress.add_task("denoising", total=count)

        def watch(event: GenerationEvent) -> None:
            progress.update(task, description=f"seed {event.seed}", completed=event.index + event.fraction)

        made = generate_files(
            opened, picture, marked, prompt, seeds, out, watch=watch, previews=shares, **options
        )
    _show(made, out, as_json_only)
    failed = [each for each in made if each.error is not None]
    if failed:
        text = f"{len(failed)} of {len(made)} candidates failed: {failed[0].error}"
        fail(text, FAULT if len(failed) == len(made) else PARTLY)


def _shares(text: str) -> tuple[float, ...]:
    """The shares of the steps in "0.25,0.5", rising."""
    try:
        shares = tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected shares like {_PREVIEWS}") from None
    if any(not 0 < share <= 1 for share in shares):
        raise typer.BadParameter(f"{text!r}: every share is above 0 and at most 1")
    return shares


def _show(made: list[Any], out: Path, as_json_only: bool) -> None:
    if as_json_only:
        stdout.print_json(json.dumps([each.as_json() for each in made]))
    else:
        for each in made:
            told = each.error or f"{each.evaluations} steps, {each.seconds:.1f} s"
            name = each.picture or f"seed {each.seed}"
            stdout.print(f"{name}: {told}", markup=False, soft_wrap=True)
        stdout.print(f"contact sheet: {out / 'contact-sheet.png'}", markup=False, soft_wrap=True)
    for note in dict.fromkeys(note for each in made for note in each.notes):
        stderr.print(f"note: {note}", markup=False)
