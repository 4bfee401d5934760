"""Requests a second and p99 of servers side by side, drawn without a plotting library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_peer_plot"]

_WIDTH, _LEFT, _RIGHT, _TOP, _BAR, _GAP = 900, 210, 90, 60, 14, 16
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_COLOURS = ((160, 190, 220), (47, 109, 168), (25, 60, 100), (176, 130, 30))
_PANELS = (("requests_per_s", "requests a second (more is better)"), ("p99", "p99 in ms (less is better)"))


def draw_peer_plot(result: dict[str, Any], path: Path) -> None:
    """Bars for each run of `measure_peers` at each concurrency; one without figures has none. Raises: OSError."""
    runs, counts = result["runs"], [str(each) for each in result["concurrencies"]]
    block = _BAR * len(counts) + _GAP
    height = _TOP + block * len(runs) + 40
    page = Image.new("RGB", (_WIDTH, height * len(_PANELS)), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    for number, (key, title) in enumerate(_PANELS):
        top = number * height
        told = f"{title}; {result['critic']}, callers at a time: {', '.join(counts)} (light to dark)"
        draw.text((20, top + 24), told, _INK, font, anchor="lm")
        values = [[run["at"][count].get(key) for count in counts] for run in runs]
        most = max((each for row in values for each in row if each is not None), default=1.0)
        for place, (run, row) in enumerate(zip(runs, values, strict=True)):
            y = top + _TOP + place * block
            draw.text((_LEFT - 10, y + block / 2 - _GAP / 2), run["name"], _INK, font, anchor="rm")
            for index, value in enumerate(row):
                _bar(draw, font, y + index * _BAR, value, most, _COLOURS[index % len(_COLOURS)])
    page.save(path)


def _bar(draw: Any, font: Any, y: float, value: float | None, most: float, colour: Any) -> None:
    if value is None:
        draw.text((_LEFT, y + _BAR / 2), "not measured", _INK, font, anchor="lm")
        return
    end = _LEFT + value / most * (_WIDTH - _LEFT - _RIGHT)
    draw.rectangle([_LEFT, y, end, y + _BAR - 2], colour)
    draw.text(
        (end + 6, y + _BAR / 2), f"{value:.0f}" if value >= 100 else f"{value:.3g}", _INK, font, anchor="lm"
    )
