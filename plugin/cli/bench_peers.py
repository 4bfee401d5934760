"""`editcritic bench serve --against`: our server beside others of the same critic."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from editcritic.plugin.cli.console import stderr, stdout

__all__ = ["bench_peers"]


def bench_peers(
    against: Sequence[str],
    critic: str,
    workers: int,
    requests: int,
    plot: Path | None,
    out: Path | None,
    *,
    as_json_only: bool,
) -> None:
    """Measure and print them; arguments as the command's options.

    Raises:
        EditCriticError: there is no such critic or peer, or our server could not be started.
    """
    from editcritic.plugin.peer_benchmark import PeerBench, behaviour_rows, measure_peers, peer_rows
    from editcritic.plugin.peer_plot import draw_peer_plot

    bench = PeerBench(tuple(name.strip() for name in against), critic, workers, requests)
    with stderr.status("measuring") as status:
        result = measure_peers(bench, progress=status.update)
    if plot is not None:
        draw_peer_plot(result, plot)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if as_json_only:
        stdout.print_json(json.dumps(result))
        return
    speed = Table("server", "request", *(f"{each} at a time: rate, p99" for each in bench.concurrencies))
    for row in peer_rows(result):
        speed.add_row(*row)
    manners = Table("server", "half a picture", "its neighbours answered", "next after 8 left")
    for row in behaviour_rows(result):
        manners.add_row(*row)
    stdout.print(speed, manners)
    for name, reason in result["skipped"].items():
        stderr.print(f"{name} was not measured: {reason}", markup=False)
