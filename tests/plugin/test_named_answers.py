"""What the engine is asked to paint so that an alignment head can learn its hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.named_answers import paint_named
from editcritic.plugin.tabletop_alignment import tabletop_vocabulary
from editcritic.server.training.named_answers import names_in, read_named


class Painter:
    """Brightens what it is given with every step, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.done = 0.0

    def candidate(self, source: np.ndarray, mask: np.ndarray, prompt: str, **options: Any) -> Any:
        self.asked.append({"prompt": prompt, **options})
        seen = lambda: SimpleNamespace(picture=source[:8, :8] // 2, region=(0, 0, 8, 8))  # noqa: E731
        return SimpleNamespace(result=lambda: source, preview=seen)

    def advance(self, candidates: Sequence[Any], to_fraction: float) -> None:
        self.done = to_fraction


@pytest.fixture
def photos() -> list[Image.Image]:
    return [Image.fromarray(np.full((128, 160, 3), 90, np.uint8))]


def test_renderings_are_repainted_in_part_and_told_the_truth(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    engine: Any = Painter()
    paint_named(engine, photos, tmp_path, renderings=5, answers=0)
    assert all(0 < each["strength"] <= 0.5 for each in engine.asked)
    examples = read_named(tmp_path)
    assert len(examples) == 5
    for each, asked in zip(examples, engine.asked, strict=True):
        assert each.is_true
        assert tabletop_vocabulary().read(asked["prompt"]) == (dict(each.words), [])


def test_plain_answers_are_kept_with_their_previews_and_not_called_true(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    engine: Any = Painter()
    paint_named(engine, photos, tmp_path, renderings=0, answers=3)
    assert [each["strength"] for each in engine.asked] == [None] * 3
    examples = read_named(tmp_path)
    assert len(examples) == 3 * 3
    assert not any(each.is_true for each in examples)


def test_a_second_run_paints_only_what_is_missing_and_the_same(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    first, second, whole = (tmp_path / name for name in ("first", "second", "whole"))
    engine: Any = Painter()
    paint_named(engine, photos, first, renderings=4, answers=0, seed=3)
    asked = len(engine.asked)
    paint_named(engine, photos, first, renderings=4, answers=0, seed=3)
    assert len(engine.asked) == asked
    paint_named(engine, photos, second, renderings=4, answers=4, seed=4)
    paint_named(engine, photos, whole, renderings=4, answers=0, seed=3)
    assert names_in(first) == names_in(whole)
    assert not names_in(first) & names_in(second)
    for one, other in zip(read_named(first), read_named(whole), strict=True):
        assert np.array_equal(one.image, other.image)
        assert one.words == other.words
