"""`editcritic bench serve`: what serving costs and withstands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json

if TYPE_CHECKING:
    from editcritic.plugin.soak import Soak

__all__ = ["bench_serve"]


@command
def bench_serve(
    critic: Annotated[
        str,
        typer.Option(
            "--critic", help="Critic to serve; dummy@20+5 sleeps 20 ms and 5 ms for each candidate."
        ),
    ] = "dummy@20+5",
    workers: Annotated[int, typer.Option(min=1, help="Threads that judge.")] = 1,
    streams: Annotated[int, typer.Option(min=1, help="Open at the same time.")] = 32,
    idle_streams: Annotated[int, typer.Option(min=1, help="Open and idle, for the memory of each.")] = 2000,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Of what is compared in turns.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the arrivals.")] = 1,
    against: Annotated[
        str,
        typer.Option(help="Measure beside other servers of the same critic instead: litserve,flask,ray."),
    ] = "",
    requests: Annotated[
        int, typer.Option(min=1, help="With --against, at each of 1, 8 and 32 callers.")
    ] = 100,
    soak: Annotated[
        int | None,
        typer.Option(
            min=100, help="Instead, receive so many scores and watch the server's memory meanwhile."
        ),
    ] = None,
    cancelled: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the soak's calls that are cancelled.")
    ] = 0.3,
    at_most: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which a soak ends with what it has.")
    ] = None,
    swaps: Annotated[int, typer.Option(min=0, help="Times that the critic is loaded anew in a soak.")] = 20,
    plot: Annotated[Path | None, typer.Option(help="Draw the latencies to this file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the JSON to this file.")] = None,
    as_json_only: Json = False,
) -> None:
    """Measure throughput over gRPC, added latency, latency under load, overload, and memory of idle streams."""
    if against:
        from editcritic.plugin.cli.bench_peers import bench_peers

        bench_peers(against.split(","), critic, workers, requests, plot, out, as_json_only=as_json_only)
        return
    if soak is not None:
        from editcritic.plugin.soak import Soak

        _run(Soak(soak, critic, workers, cancelled, swaps, seed=seed, seconds=at_most), out, as_json_only)
        return
    from editcritic.plugin.serve_benchmark import ServeBench, measure_serving, serve_rows
    from editcritic.plugin.serve_plot import draw_serve_plot

    bench = ServeBench(
        critic=critic,
        workers=workers,
        streams=streams,
        idle_streams=idle_streams,
        seconds=seconds,
        rounds=rounds,
        seed=seed,
    )
    with stderr.status("measuring") as status:
        result = measure_serving(bench, progress=status.update)
    if plot is not None:
        draw_serve_plot(result, plot)
    told = {name: value for name, value in result.items() if name != "latencies_ms"}
    if out is not None:
        out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if as_json_only:
        stdout.print_json(json.dumps(told))
        return
    table = Table("figure", "value")
    for row in serve_rows(result):
        table.add_row(*row)
    stdout.print(table)


def _run(soak: Soak, out: Path | None, as_json_only: bool) -> None:
    from editcritic.plugin.soak import run_soak, soak_rows

    with stderr.status("soaking") as status:
        result = run_soak(soak, progress=status.update)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json_only:
        stdout.print_json(json.dumps(result))
        return
    table = Table("share", "scores", "s", "memory, MiB", "descriptors", "threads")
    for row in soak_rows(result):
        table.add_row(*row)
    stdout.print(table)
    told = result["verdict"]
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(result["calls"].items()))
    stdout.print(f"{result['rate']:.0f} scores/s, {result['swaps']} swaps; calls: {ends}")
    stdout.print(
        f"memory after the first tenth {told['growth']:+.1%} at most: {'flat' if told['is_flat'] else 'NOT FLAT'}"
    )
    if not told["is_flat"]:
        raise typer.Exit(1)
