"""`editcritic bench`: speed of critics and of large models, prompt-following of engines, what the loop is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json
from editcritic.server.critics import DEFAULT_CRITIC

__all__ = ["bench_critic", "bench_engine", "bench_loop", "bench_models", "bench_quality"]

Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write the JSON to this file.")]
Images = Annotated[Path, typer.Option("--images", help="Folder of photographs that nothing was trained on.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="Edits to carry out.")]
EngineName = Annotated[str, typer.Option("--engine", "-e", help="tabletop, a pipeline folder, or a hub id.")]
Seed = Annotated[int, typer.Option(min=0, help="Names edits and seeds.")]


@command
def bench_critic(
    repeats: Annotated[int, typer.Option(help="Measurements of each figure.")] = 20,
    critic: Annotated[str, typer.Option("--critic", help="Critic to measure.")] = DEFAULT_CRITIC,
    out: Out = None,
    as_json_only: Json = False,
) -> None:
    """Measure the critic alone, over gRPC, from a cold start, and its memory."""
    from editcritic.plugin.benchmark import benchmark_rows, run_benchmark

    with stderr.status("measuring") as status:
        result = run_benchmark(repeats=repeats, progress=status.update, critic=critic)
    _tell(result, benchmark_rows(result), out, as_json_only)


@command
def bench_engine(
    images: Images,
    count: Count = 360,
    engine: EngineName = "tabletop",
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps of each.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the prompt is followed.")] = None,
    seed: Seed = 900,
    sheet: Annotated[Path | None, typer.Option(help="Draw the first 36 edits to this file.")] = None,
    out: Out = None,
    as_json_only: Json = False,
) -> None:
    """Measure how often an engine does what the prompt says, by the oracle."""
    from editcritic.plugin.tabletop_benchmark import measure_engine
    from editcritic.refine.engine import load_engine
    from editcritic.refine.tabletop.photos import read_photos

    with stderr.status("measuring") as status:
        result = measure_engine(
            load_engine(engine),
            read_photos(images),
            count=count,
            seed=seed,
            sheet=sheet,
            progress=status.update,
            steps=steps,
            guidance=guidance,
        )
    rows = [(name.replace("_", " "), f"{value:.4g}") for name, value in result.items()]
    _tell(result, rows, out, as_json_only)


@command
def bench_loop(
    images: Images,
    count: Count = 200,
    candidates: Annotated[int, typer.Option(min=2, max=32, help="First answers of each edit.")] = 8,
    rounds: Annotated[int, typer.Option(min=0, max=4, help="Repairs of each edit.")] = 2,
    engine: EngineName = "tabletop",
    critic: Annotated[str, typer.Option(help="Critic that steers.")] = DEFAULT_CRITIC,
    held_out: Annotated[str, typer.Option(help="Critic that has no part in the search.")] = "evidence",
    accepts: Annotated[
        bool, typer.Option(help="The held-out critic has to agree to what replaces the first answer.")
    ] = True,
    price: Annotated[float, typer.Option(min=0.001, help="Of the race, in points.")] = 1.0,
    seed: Seed = 901,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each if more than one.")] = 1,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep candidates in this folder, so that measuring again needs no denoising."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw quality against cost to this file.")] = None,
    out: Out = None,
    as_json_only: Json = False,
) -> None:
    """Measure choosing, racing and mending against one plain sample, at equal denoising steps."""
    from editcritic.plugin.loop_benchmark import LoopBench, measure_loop
    from editcritic.plugin.loop_figures import figure_rows
    from editcritic.plugin.loop_plot import draw_loop_plot

    bench = LoopBench(
        images, count, candidates, rounds, seed, price, engine, critic, held_out, accepts, keep=keep
    )
    with stderr.status("measuring") as status:
        result = measure_loop(
            bench, workers, lambda done, total: status.update(f"edits done: {done} of {total}")
        )
    if plot is not None:
        draw_loop_plot(result, plot)
    _tell(result, figure_rows(result), out, as_json_only)


@command
def bench_quality(
    images: Images,
    count: Count = 100,
    engine: EngineName = "tabletop",
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps of each.")] = None,
    seed: Seed = 905,
    out: Out = None,
    as_json_only: Json = False,
) -> None:
    """Measure a wanted quality, quality guidance and critic guidance against the base engine, seed by seed."""
    from editcritic.plugin.quality_benchmark import QualityBench, figures, measure_quality

    bench = QualityBench(images, count, seed, engine, steps)
    with stderr.status("measuring") as status:
        result = measure_quality(bench, lambda done, total: status.update(f"edits done: {done} of {total}"))
    _tell(result, figures(result), out, as_json_only)


@command
def bench_models(
    shape: Annotated[
        str, typer.Option(help="Size of the model: tiny, 2b or 8b, of Qwen2.5-VL's classes.")
    ] = "tiny",
    dtype: Annotated[
        str, typer.Option(help="bfloat16, float32 or 4bit; bfloat16 on a GPU by default, float32 on a CPU.")
    ] = "",
    device: Annotated[
        str, typer.Option(help="cpu, cuda or cuda:N; a GPU where there is one by default.")
    ] = "",
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Candidates in a batch; may be repeated. 1 to 32 by default."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each figure.")] = 5,
    out: Out = None,
    as_json_only: Json = False,
) -> None:
    """Time the multimodal critic's forward pass on a model of random weights; timing only."""
    from editcritic.plugin.model_benchmark import BATCHES, measure_models, model_rows

    with stderr.status("measuring") as status:
        result = measure_models(
            shape,
            device=device,
            dtype=dtype,
            batches=batch or BATCHES,
            repeats=repeats,
            progress=status.update,
        )
    _tell(result, model_rows(result), out, as_json_only)


def _tell(result: dict[str, Any], rows: list[tuple[str, str]], out: Path | None, as_json_only: bool) -> None:
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json_only:
        stdout.print_json(json.dumps(result))
        return
    table = Table("figure", "value")
    for row in rows:
        table.add_row(*row)
    stdout.print(table)
