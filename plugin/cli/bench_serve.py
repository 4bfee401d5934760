"""`editcritic bench serve`: what serving costs and withstands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json

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
    plot: Annotated[Path | None, typer.Option(help="Draw the latencies to this file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the JSON to this file.")] = None,
    as_json_only: Json = False,
) -> None:
    """Measure throughput over gRPC, added latency, latency under load, overload, and memory of idle streams."""
    if against:
        from editcritic.plugin.cli.bench_peers import bench_peers

        bench_peers(against.split(","), critic, workers, requests, plot, out, as_json_only=as_json_only)
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
