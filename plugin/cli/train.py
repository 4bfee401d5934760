"""`editcritic train`: teach the network critic from photographs alone, adapt it, calibrate it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout

__all__ = [
    "train",
    "train_adapt",
    "train_adapt_alignment",
    "train_alignment_head",
    "train_calibrate",
    "train_gallery",
    "train_instruct",
    "train_knockout",
    "train_network",
    "train_previews",
    "train_quality_head",
    "train_verdicts",
]

Images = Annotated[Path, typer.Option("--images", help="Folder of photographs (PNG, JPEG, WebP).")]
Masks = Annotated[Path | None, typer.Option("--masks", help="Object masks, <photo>_<anything>.png.")]
Manifest = Annotated[Path | None, typer.Option(help="CSV with the columns file and split.")]
Split = Annotated[str, typer.Option(help="Use only this split of the manifest.")]
Seed = Annotated[int, typer.Option(min=0, help="Names everything that is drawn.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="Folder of weights; by default the shipped ones.")
]

train = typer.Typer(
    help="Teach the network critic from photographs alone; adapt and calibrate it.", no_args_is_help=True
)


@train.command("network")
@command
def train_network(
    images: Images,
    out: Out,
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    stages: Annotated[
        str, typer.Option(help="Stages to carry out, with commas; by default all that are left.")
    ] = "",
    steps: Annotated[int, typer.Option(min=0, help="Steps of each stage; 0 for their own numbers.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, help="Processes that draw pairs.")] = 1,
    seed: Seed = 0,
) -> None:
    """Carry out the training stages, or go on where a run in this folder stopped."""
    from editcritic.server.training.curves import draw_log
    from editcritic.server.training.recipes import Material, train_network
    from editcritic.server.training.stages import STAGES
    from editcritic.server.training.trainer import Report

    with _progress("{task.fields[told]}") as progress:
        task = progress.add_task("reading photographs", total=None, told="")

        def on_report(report: Report) -> None:
            told = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
            progress.update(
                task, description=report.stage, completed=report.step, total=report.steps, told=told
            )

        weights = train_network(
            Material(images, masks, manifest, split),
            out,
            stages=[name.strip() for name in stages.split(",") if name.strip()] or tuple(STAGES),
            seed=seed,
            device=device,
            workers=workers,
            steps=steps,
            told=on_report,
        )
    if (out / "log.csv").exists():
        draw_log(out / "log.csv", out / "log.png")
    stdout.print(f"{weights}; curves in {out / 'log.png'}", markup=False)


@train.command("calibrate")
@command
def train_calibrate(
    images: Images,
    out: Out,
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="network.safetensors; by default that of --out.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the calibration, told to clients.")] = "custom-1",
    seed: Seed = 0,
) -> None:
    """Fit scores and thresholds on the photographs that training left aside; no labels."""
    from editcritic.server.training.recipes import Material, calibrate

    with _progress() as progress:
        task = progress.add_task("judging", total=None)
        calibrate(
            weights or out / "network.safetensors",
            Material(images, masks, manifest, split),
            out,
            name=name,
            seed=seed,
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )
    stdout.print(str(out / "calibration.json"), markup=False)


@train.command("verdicts")
@command
def train_verdicts(
    verdicts: Annotated[Path, typer.Option("--verdicts", help="SQLite file that a server kept.")],
    out: Out,
    weights: Weights = None,
    method: Annotated[
        str, typer.Option(help="temperature, isotonic, or auto (isotonic from 40 verdicts).")
    ] = "auto",
) -> None:
    """Move the scale of the scores to 20 to 50 verdicts of people; the order of scores stays."""
    from editcritic.server.critics.network.critic import WEIGHTS
    from editcritic.server.training.verdict_calibration import calibrate_on_verdicts

    told = calibrate_on_verdicts(verdicts, weights or WEIGHTS, out, method)
    stdout.print(
        f"{told.count} verdicts, {told.method}: error {told.error_before:.3f} -> {told.error_after:.3f}"
        f" (expected calibration error, left out in turn); {out}",
        markup=False,
    )


@train.command("adapt")
@command
def train_adapt(
    images: Images,
    out: Out,
    engine: Annotated[str, typer.Option("--engine", "-e", help="tabletop, a pipeline folder, a hub id.")],
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    weights: Weights = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts for the engine, one a line; needed but for tabletop.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=10, help="Edits that the engine answers.")] = 200,
    engine_steps: Annotated[int, typer.Option(min=2, help="Steps of the engine's best answer.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 300,
    seed: Seed = 0,
) -> None:
    """Adapt to a new generator without a label: its answers with all, few and very few steps."""
    from editcritic.plugin.engine_answers import answer_edits, tabletop_prompts
    from editcritic.refine.engine import load_engine
    from editcritic.refine.tabletop.photos import read_photos
    from editcritic.server.critics.network.critic import WEIGHTS
    from editcritic.server.training.recipes import Material, adapt

    asked = prompts.read_text(encoding="utf-8").splitlines() if prompts else tabletop_prompts(count, seed)
    with _progress() as progress:
        task = progress.add_task(f"{engine} answers", total=count)
        answer_edits(
            load_engine(engine),
            read_photos(images),
            [line for line in asked if line.strip()],
            out / "answers",
            count=count,
            steps=engine_steps,
            seed=seed,
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )
        task = progress.add_task("adapting", total=steps)
        figures = adapt(
            weights or WEIGHTS,
            out / "answers",
            Material(images, masks, manifest, split),
            out,
            steps=steps,
            seed=seed,
            told=lambda done, _loss: progress.update(task, completed=done),
        )
    stdout.print(
        f"pairs of the engine in order, on edits left aside: {100 * figures['before']:.1f} % before,"
        f" {100 * figures['after']:.1f} % after, of {figures['pairs']:.0f}; {out}",
        markup=False,
    )


@train.command("previews")
@command
def train_previews(
    images: Images,
    out: Out,
    engine: Annotated[str, typer.Option("--engine", "-e", help="tabletop, a pipeline folder, a hub id.")],
    weights: Weights = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Prompts for the engine, one a line; needed but for tabletop.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=20, help="Edits that the engine answers.")] = 300,
    answers: Annotated[int, typer.Option(min=2, help="Answers to each edit.")] = 4,
    seed: Seed = 0,
) -> None:
    """Learn what an engine's previews promise: its answers, finished, with their previews; no labels."""
    from editcritic.plugin.recorded_answers import prompted_edits, record_previews, tabletop_edits
    from editcritic.refine.engine import load_engine
    from editcritic.refine.tabletop.photos import read_photos
    from editcritic.server.critics.network.critic import WEIGHTS
    from editcritic.server.training.recipes import train_previews
    from editcritic.v1.errors import InvalidInput

    if prompts is None and engine != "tabletop":
        raise InvalidInput("prompts for this engine are needed: --prompts FILE, one a line")
    photos, opened = read_photos(images), load_engine(engine)
    asked = prompts.read_text(encoding="utf-8").split("\n") if prompts else []
    edits = (
        prompted_edits(photos, [line for line in asked if line.strip()], count, seed)
        if prompts
        else tabletop_edits(photos, count, seed)
    )
    with _progress() as progress:
        task = progress.add_task(f"{engine} answers", total=count)
        record_previews(
            opened,
            edits,
            out / "recorded",
            answers=answers,
            seed=seed,
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )
        task = progress.add_task("looking", total=count)
        found = train_previews(
            weights or WEIGHTS,
            out / "recorded",
            opened.capabilities.name,
            out,
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )
    told = ", ".join(f"{value:.2f} at {100 * share:.0f} %" for share, value in found.items())
    stdout.print(
        f"rank correlation with the final visual quality, on edits left aside: {told}; {out}", markup=False
    )


@train.command("alignment")
@command
def train_alignment_head(
    images: Images,
    out: Out,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 128.")] = 2600,
    seed: Seed = 0,
) -> None:
    """Teach the alignment head the tabletop engine's words, from renderings over photographs."""
    from editcritic.plugin.tabletop_alignment import draw_example, tabletop_vocabulary
    from editcritic.refine.tabletop.photos import read_photos
    from editcritic.server.training.alignment import save_head, train_alignment

    photos, vocabulary = read_photos(images), tabletop_vocabulary()
    with _progress() as progress:
        task = progress.add_task("learning words", total=steps)
        network = train_alignment(
            lambda rng: draw_example(photos, rng),
            vocabulary,
            steps,
            seed,
            lambda done, _loss: progress.update(task, completed=done),
        )
    out.mkdir(parents=True, exist_ok=True)
    save_head(network, vocabulary, out / "alignment.safetensors")
    stdout.print(str(out / "alignment.safetensors"), markup=False)


@train.command("adapt-alignment")
@command
def train_adapt_alignment(
    images: Images,
    out: Out,
    weights: Weights = None,
    renderings: Annotated[int, typer.Option(min=0, help="Renderings that the engine repaints.")] = 400,
    answers: Annotated[int, typer.Option(min=0, help="Prompts that the engine answers.")] = 1200,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 128.")] = 400,
    seed: Seed = 0,
) -> None:
    """Teach the alignment head what the tabletop engine's own pictures look like; no labels."""
    import numpy as np

    from editcritic.plugin.named_answers import paint_named
    from editcritic.plugin.tabletop_alignment import ASKED_WRONG, draw_example
    from editcritic.refine.engine import load_engine
    from editcritic.refine.tabletop.photos import read_photos
    from editcritic.server.critics.network.critic import WEIGHTS
    from editcritic.server.training.recipes import adapt_alignment

    photos, painted = read_photos(images), out / "painted"
    rng = np.random.default_rng((seed, 7))
    with _progress() as progress:
        task = progress.add_task("tabletop paints", total=renderings + answers)
        paint_named(
            load_engine("tabletop"),
            photos,
            painted,
            renderings=renderings,
            answers=answers,
            seed=seed,
            told=lambda done, total: progress.update(task, completed=done, total=total),
        )
        task = progress.add_task("learning words", total=steps)
        figures = adapt_alignment(
            weights or WEIGHTS,
            painted,
            [draw_example(photos, rng) for _ in range(2 * (renderings + answers))],
            ASKED_WRONG,
            out,
            steps=steps,
            seed=seed,
            told=lambda done, _loss: progress.update(task, completed=done),
        )
    for slot, (before, after, count) in figures.items():
        stdout.print(
            f"{slot}: read as told {100 * before:.1f} % before, {100 * after:.1f} % after, of {count}",
            markup=False,
        )
    stdout.print(str(out / "alignment.safetensors"), markup=False)


@train.command("head")
@command
def train_quality_head(
    images: Images,
    out: Out,
    model: Annotated[str, typer.Option(help="Multimodal model: a folder, or the id of one on a hub.")],
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    answers: Annotated[
        Path | None, typer.Option(help="An engine's answers, as `train adapt` keeps them.")
    ] = None,
    with_network: Annotated[
        bool, typer.Option("--with-network", help="Put the shipped network's features beside the model's.")
    ] = False,
    count: Annotated[int, typer.Option("--count", "-n", min=5, help="Groups of injected faults.")] = 60,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 400,
    device: Annotated[str, typer.Option(help="cpu or cuda; a GPU where there is one by default.")] = "",
    seed: Seed = 0,
) -> None:
    """Teach a head on a frozen multimodal model to tell good edits from bad ones; no labels."""
    from editcritic.server.critics.multimodal.model import open_model
    from editcritic.server.critics.spec import LoadOptions
    from editcritic.server.training.recipes import Material, train_quality_head

    with _progress() as progress:
        task = progress.add_task("opening", total=None)
        found = train_quality_head(
            open_model(model, LoadOptions(device=device)),
            model,
            Material(images, masks, manifest, split),
            out,
            answers=answers,
            with_network=with_network,
            count=count,
            steps=steps,
            seed=seed,
            told=lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total
            ),
        )
    names = ("visual quality", "prompt alignment")
    told = ", ".join(
        f"{names[dimension]} {100 * share:.1f} % of {pairs}" for dimension, (share, pairs) in found.items()
    )
    stdout.print(f"pairs in order, on edits left aside: {told}; {out}", markup=False)


@train.command("instruct")
@command
def train_instruct(
    images: Images,
    out: Out,
    model: Annotated[str, typer.Option(help="Multimodal model: a folder, or the id of one on a hub.")],
    settings: Annotated[
        str, typer.Option(help="gpu_24gb, gpu_80gb, smoke, or a file of settings of your own.")
    ] = "gpu_24gb",
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    table: Annotated[
        Path | None,
        typer.Option(help="CSV of people's opinions to learn from too; its files lie below --images."),
    ] = None,
    layout: Annotated[str, typer.Option(help="Whose columns the table has.")] = "epaiqa",
    device: Annotated[str, typer.Option(help="cpu or cuda; a GPU where there is one by default.")] = "",
    seed: Seed = 0,
) -> None:
    """Tune a multimodal model with adapters: find the edit, rate it, explain it; no labels."""
    from editcritic.server.critics.multimodal.model import open_model
    from editcritic.server.critics.spec import LoadOptions
    from editcritic.server.training.instruction.settings import read_settings
    from editcritic.server.training.instruction.tuning import InstructionTuner
    from editcritic.server.training.pairs import read_photographs
    from editcritic.server.training.recipes import Material
    from editcritic.server.training.suites.opinion import LAYOUTS, read_opinions
    from editcritic.v1.errors import InvalidInput

    if layout not in LAYOUTS:
        raise InvalidInput(f"there is no layout {layout!r}; known are {', '.join(LAYOUTS)}")
    chosen, material = read_settings(settings), Material(images, masks, manifest, split)
    opinions = read_opinions(table, images, LAYOUTS[layout]) if table else []
    photographs = read_photographs(material.files(), masks)
    tuner = InstructionTuner(open_model(model, LoadOptions(chosen.bits, device)), chosen, out, seed)
    with _progress("loss {task.fields[loss]:.3f}") as progress:
        task = progress.add_task("opening", total=None, loss=float("nan"))
        tuner.train(
            photographs,
            lambda stage, step, steps, loss: progress.update(
                task, description=stage, completed=step, total=steps, loss=loss
            ),
            opinions,
        )
    stdout.print(f"serve it with: editcritic serve --critics multimodal@{out}", markup=False)


@train.command("knockout")
@command
def train_knockout(
    images: Images,
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    weights: Weights = None,
    count: Annotated[int, typer.Option("--count", "-n", min=2, help="Photographs.")] = 15,
    seed: Seed = 0,
) -> None:
    """Tell what each part of the network is worth: the same network with one part silent."""
    from editcritic.server.critics.network.critic import WEIGHTS
    from editcritic.server.critics.network.runner import load_network
    from editcritic.server.training.evaluation import list_jobs
    from editcritic.server.training.knockout import measure_parts

    jobs = list_jobs(images, masks=masks, manifest=manifest, split=split, limit=count, seed=seed)
    with _progress() as progress:
        task = progress.add_task("judging", total=len(jobs))
        found = measure_parts(
            load_network((weights or WEIGHTS) / "network.safetensors"),
            jobs,
            lambda done, _total: progress.update(task, completed=done),
        )
    table = Table("silent", "pairs in order", "faulty found (AUC)", "kind found (AUC)")
    for part, report in found.items():
        table.add_row(part, f"{100 * report.order:.1f} %", f"{report.found:.3f}", f"{report.named:.3f}")
    stdout.print(table)


@train.command("gallery")
@command
def train_gallery(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write.")],
    masks: Masks = None,
    manifest: Manifest = None,
    split: Split = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=200, help="Groups to show.")] = 12,
    side: Annotated[int, typer.Option(help="Side of the windows; a multiple of 32.")] = 256,
    seed: Seed = 0,
) -> None:
    """Draw label-free pairs as a contact sheet: the same groups that training sees."""
    from editcritic.server.training.gallery import draw_gallery
    from editcritic.server.training.recipes import Material, gallery_source

    source = gallery_source(Material(images, masks, manifest, split), side, seed)
    draw_gallery([source.group(i) for i in range(count)]).save(out)
    stdout.print(str(out), markup=False)


def _progress(*columns: str) -> Progress:
    told = [TextColumn(column) for column in columns]
    return Progress(*Progress.get_default_columns()[:3], TimeRemainingColumn(), *told, console=stderr)
