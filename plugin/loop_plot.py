"""Quality against cost, drawn without a plotting library: one point with its interval for each arm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_loop_plot"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 440, 80, 30, 40, 60
_PAPER, _INK, _LINE = (255, 255, 255), (40, 40, 40), (215, 215, 215)
_COLOURS = (
    (120, 120, 120),
    (47, 109, 168),
    (150, 110, 170),
    (60, 160, 170),
    (40, 140, 90),
    (176, 130, 30),
    (194, 64, 47),
)
_MARGIN = 3.0  # points of score left free below the lowest interval


def draw_loop_plot(result: dict[str, Any], path: Path) -> None:
    """The critic's score over denoising steps, mean and 95 % interval, of `measure_loop`. Raises: OSError."""
    arms = result["arms"]
    page = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    widest = 1.15 * max(arm["evaluations"]["mean"] for arm in arms.values())
    floor = 10 * math.floor((min(arm["score"]["low"] for arm in arms.values()) - _MARGIN) / 10)

    def place(steps: float, score: float) -> tuple[float, float]:
        across, up = steps / widest, (score - floor) / (100 - floor)
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    for level in range(floor, 101, 10):
        draw.line([place(0, level), place(widest, level)], _LINE)
        draw.text((_LEFT - 10, place(0, level)[1]), str(level), _INK, font, anchor="rm")
    for steps in range(0, int(widest) + 1, max(1, int(widest) // 5)):
        draw.text((place(steps, floor)[0], _HEIGHT - _BOTTOM + 8), str(steps), _INK, font, anchor="mt")
    for row, ((name, arm), colour) in enumerate(zip(arms.items(), _COLOURS, strict=True)):
        steps, score = arm["evaluations"]["mean"], arm["score"]
        draw.line([place(steps, score["low"]), place(steps, score["high"])], colour, 3)
        x, y = place(steps, score["mean"])
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], colour)
        told = f"{name.replace('_', ' ')}: score {score['mean']:.1f}, {arm['followed']['mean']:.1%} followed"
        draw.text((_WIDTH - 330, _HEIGHT - _BOTTOM - 20 * (len(arms) - row)), told, colour, font, anchor="lm")
    draw.text((_WIDTH / 2, _HEIGHT - 18), "denoising steps for each edit", _INK, font, anchor="mm")
    draw.text((_LEFT, 18), "overall score of the critic (0 to 100)", _INK, font, anchor="lm")
    page.save(path)
