"""Plots of a training run's log and of an evaluation's curves."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from editcritic.v1.errors import InvalidInput

__all__ = ["draw_curve", "draw_log"]

_COUNTED = frozenset({"stage", "step", "seconds_per_step"})


def draw_log(log: Path, picture: Path) -> None:
    """Every loss of a run's `log.csv` over its steps, as PNG or SVG by the picture's suffix.

    Raises:
        InvalidInput: the log is missing or empty.
    """
    try:
        with log.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
    except OSError as error:
        raise InvalidInput(f"there is no training log {log}: {error.strerror}") from error
    if not rows:
        raise InvalidInput(f"the training log {log} is empty")
    losses: dict[str, list[tuple[float, float]]] = defaultdict(list)
    begins = [
        (i, row["stage"]) for i, row in enumerate(rows) if i == 0 or rows[i - 1]["stage"] != row["stage"]
    ]
    for place, row in enumerate(rows):
        for name, value in row.items():
            if name not in _COUNTED and value != "nan":
                losses[name].append((place, float(value)))
    drawing = Drawing(figsize=(9, 2.2 * len(losses)), layout="constrained")
    axes = drawing.subplots(len(losses), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, points) in zip(axes, losses.items(), strict=True):
        axis.plot(*zip(*points, strict=True), lw=1)
        axis.set_ylabel(name)
        for place, stage in begins:
            axis.axvline(place, color="0.8", lw=0.8)
            axis.annotate(stage, (place, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top")
    axes[-1].set_xlabel("reports (20 steps each)")
    drawing.savefig(picture)


def draw_curve(
    points: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, *, diagonal: bool = False
) -> str:
    """Curves as one SVG image, to stand in a page."""
    drawing = Drawing(figsize=(4.2, 3.2), layout="constrained")
    axis = drawing.subplots()
    if diagonal:
        axis.plot([0, 1], [0, 1], color="0.7", lw=1, ls="--")
    for name, each in points.items():
        axis.plot(*zip(*each, strict=True), marker="o", ms=3, lw=1.2, label=name)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if len(points) > 1:
        axis.legend(fontsize=7)
    out = io.StringIO()
    drawing.savefig(out, format="svg")
    return out.getvalue()[out.getvalue().index("<svg") :]
