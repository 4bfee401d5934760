"""`editcritic top`: what a server is doing, live."""

from __future__ import annotations

import math
import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.server_figures import Figures, read_figures

__all__ = ["frame", "top"]

_STAGES = ("decode", "prepare", "queue", "critique")
_SHIFTED = 0.25


@command
def top(
    metrics: Annotated[
        str, typer.Option(envvar="EDITCRITIC_METRICS", help="Address of the server's metrics.")
    ] = "http://127.0.0.1:9464/metrics",
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame, of all the server's time, and end.")
    ] = False,
) -> None:
    """Queue, batches, latency and critics of a server that was started with --metrics-port."""
    earlier = read_figures(metrics)
    if once:
        stdout.print(frame(earlier))
        return
    with Live(frame(earlier), console=stdout, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            now = read_figures(metrics)
            live.update(frame(now.since(earlier)), refresh=True)
            earlier = now


def frame(figures: Figures) -> Group:
    """One picture of a server."""
    return Group(_state(figures), _stages(figures), _critics(figures), _calls(figures))


def _state(figures: Figures) -> Text:
    total = figures.total
    parts = [
        f"queue {total('editcritic_queue_items'):.0f} of {total('editcritic_queue_items_limit'):.0f}",
        f"{_mb(total('editcritic_queue_bytes'))} of {_mb(total('editcritic_queue_bytes_limit'))}",
        f"streams {total('editcritic_streams_open'):.0f}",
        f"memory {_mb(total('process_resident_memory_bytes'))}",
    ]
    device = total("editcritic_device_memory_bytes", kind="allocated")
    parts += [f"device {_mb(device)}"] if device else []
    parts.append(f"over {figures.seconds:.0f} s")
    return Text(" · ".join(parts))


def _mb(count: float) -> str:
    return f"{count / 2**20:.0f} MB"


def _stages(figures: Figures) -> Table:
    table = Table("stage", title="judged candidates, ms", title_justify="left")
    for label in ("p50", "p95", "p99"):
        table.add_column(label, justify="right")
    for stage in _STAGES:
        table.add_row(stage, *_percentiles(figures, "editcritic_stage_seconds", stage=stage))
    table.add_row("all", *_percentiles(figures, "editcritic_item_seconds"), style="bold")
    return table


def _critics(figures: Figures) -> Table:
    table = Table("critic", title="critics", title_justify="left")
    for label in ("a second", "waiting", "batch", "p95 ms", "abstained", "failed", "score", "drift"):
        table.add_column(label, justify="right")
    for name in figures.named("critic", "editcritic_critic_ready"):
        count = figures.total("editcritic_items_total", critic=name)
        scored = figures.total("editcritic_items_total", critic=name, status="scored")
        abstained = figures.total("editcritic_items_total", critic=name, status="abstained")
        table.add_row(
            name,
            f"{figures.rate('editcritic_items_total', critic=name):.2f}",
            f"{figures.total('editcritic_waiting_items', critic=name):.0f}",
            _shown(figures.mean("editcritic_batch_size", critic=name), 1),
            _percentiles(figures, "editcritic_item_seconds", critic=name)[1],
            _share(abstained, count),
            _share(count - scored - abstained, count),
            _shown(figures.mean("editcritic_score", critic=name), 0),
            _drift(figures, name),
        )
    return table


def _calls(figures: Figures) -> Table:
    table = Table("call", "status", title="calls", title_justify="left")
    table.add_column("a second", justify="right")
    table.add_column("count", justify="right")
    for method in figures.named("method", "editcritic_calls_total"):
        for status in figures.named("status", "editcritic_calls_total", method=method):
            count = figures.total("editcritic_calls_total", method=method, status=status)
            if count:
                rate = figures.rate("editcritic_calls_total", method=method, status=status)
                table.add_row(method, status, f"{rate:.2f}", f"{count:.0f}")
    return table


def _percentiles(figures: Figures, histogram: str, **labels: str) -> list[str]:
    return [_shown(1000 * figures.quantile(share, histogram, **labels), 1) for share in (0.5, 0.95, 0.99)]


def _shown(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _drift(figures: Figures, critic: str) -> Text:
    versions = figures.named("version", "editcritic_score_drift", critic=critic)
    value = (
        figures.total("editcritic_score_drift", critic=critic, version=versions[-1]) if versions else math.nan
    )
    return Text(_shown(value, 2), style="red" if value > _SHIFTED else "")
