"""Latency over the share of candidates that were faster, drawn without a plotting library."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_serve_plot"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 440, 80, 30, 40, 60
_PAPER, _INK, _LINE, _CURVE = (255, 255, 255), (40, 40, 40), (215, 215, 215), (47, 109, 168)
_MARKS = {"50 %": 0.5, "90 %": 0.9, "99 %": 0.99, "99.9 %": 0.999}


def draw_serve_plot(result: dict[str, Any], path: Path) -> None:
    """Latency at each percentile of `measure_serving`, the shares on a scale of nines. Raises: OSError."""
    latencies = np.sort(np.asarray(result["latencies_ms"], float))
    page = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    nines, top = max(3.0, math.log10(len(latencies))), 1.05 * float(latencies[-1])

    def place(share: float, milliseconds: float) -> tuple[float, float]:
        across, up = -math.log10(1 - share) / nines, milliseconds / top
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    for level in np.linspace(0, top, 6):
        draw.line([place(0, level), (_WIDTH - _RIGHT, place(0, level)[1])], _LINE)
        draw.text((_LEFT - 10, place(0, level)[1]), f"{level:.3g}", _INK, font, anchor="rm")
    for name, share in _MARKS.items():
        draw.line([place(share, 0), place(share, top)], _LINE)
        draw.text((place(share, 0)[0], _HEIGHT - _BOTTOM + 8), name, _INK, font, anchor="mt")
    shares = np.arange(len(latencies)) / len(latencies)
    draw.line([place(*each) for each in zip(shares, latencies, strict=True)], _CURVE, 3)
    told = f"{result['critic']}, {result['streams']} streams, {result['latency']['rate']:.3g} candidates a second"
    draw.text((_LEFT, 18), f"latency in ms: {told}", _INK, font, anchor="lm")
    draw.text((_WIDTH / 2, _HEIGHT - 18), "share of candidates that were faster", _INK, font, anchor="mm")
    page.save(path)
