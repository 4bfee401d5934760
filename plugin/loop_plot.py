"""Quality against cost, drawn without a plotting library: one point with its interval for each arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_loop_plot"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 440, 80, 70
_PAPER, _INK, _LINE, _POINT = (255, 255, 255), (40, 40, 40), (215, 215, 215), (47, 109, 168)


def draw_loop_plot(result: dict[str, Any], path: Path) -> None:
    """The critic's score over denoising steps, mean and 95 % interval. Raises: OSError."""
    page = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    widest = 1.15 * max(arm["evaluations"]["mean"] for arm in result["arms"].values())
    plot_width, plot_height = _WIDTH - _LEFT - 30, _HEIGHT - _BOTTOM - 30

    def place(steps: float, score: float) -> tuple[float, float]:
        return _LEFT + plot_width * steps / widest, 30 + plot_height * (1 - score / 100)

    for level in range(0, 101, 20):
        draw.line([place(0, level), place(widest, level)], _LINE)
        draw.text((_LEFT - 10, place(0, level)[1]), str(level), _INK, font, anchor="rm")
    for name, arm in result["arms"].items():
        steps, score = arm["evaluations"]["mean"], arm["score"]
        draw.line([place(steps, score["low"]), place(steps, score["high"])], _POINT, 3)
        x, y = place(steps, score["mean"])
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], _POINT)
        label = f"{name.replace('_', ' ')}: {score['mean']:.1f}, {arm['followed']['mean']:.0%} followed"
        draw.text((x, place(0, 0)[1] + 12), f"{steps:.0f}", _INK, font, anchor="mt")
        draw.text((x, y - 34), label, _INK, font, anchor="mm")
    draw.text(
        (_LEFT + plot_width / 2, _HEIGHT - 22), "denoising steps for each edit", _INK, font, anchor="mm"
    )
    draw.text((_LEFT, 12), "overall score of the critic (0 to 100)", _INK, font, anchor="lm")
    page.save(path)
