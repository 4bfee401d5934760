"""Answers whose order is known without a label: fewer steps, more guidance, more round trips."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.engine_answers import answer_edits, tabletop_prompts
from editcritic.server.training.engine_pairs import read_answers


class CountingEngine:
    """Darkens what it is given by one level a call, and remembers what was asked of it."""

    capabilities = SimpleNamespace(default_guidance=5.0)

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def candidate(self, source: np.ndarray, mask: np.ndarray, prompt: str, **options: Any) -> Any:
        self.asked.append({"prompt": prompt, **options})
        return SimpleNamespace(result=lambda: np.clip(source.astype(int) - 1, 0, 255).astype(np.uint8))


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.full((96, 128, 3), 90, np.uint8))


def test_each_edit_in_turn_gets_worse_in_one_of_three_ways(photo: Image.Image, tmp_path: Path) -> None:
    engine: Any = CountingEngine()
    made = answer_edits(engine, [photo], ["a cat"], tmp_path, count=3, steps=20)
    assert [list(each.made) for each in made] == [
        ["20 steps", "7 steps", "4 steps", "2 steps"],
        ["guidance 5", "guidance 15", "guidance 30", "guidance 60"],
        ["0 round trips", "1 round trips", "2 round trips", "3 round trips"],
    ]
    assert [asked["steps"] for asked in engine.asked[:4]] == [20, 7, 4, 2]
    assert [asked["guidance"] for asked in engine.asked[4:8]] == [5.0, 15.0, 30.0, 60.0]
    assert len({asked["seed"] for asked in engine.asked[:4]}) == 1


def test_round_trips_begin_with_the_photograph_and_feed_on_one_another(
    photo: Image.Image, tmp_path: Path
) -> None:
    engine: Any = CountingEngine()
    trips = answer_edits(engine, [photo], ["a cat"], tmp_path, count=3)[2]
    assert [int(image[0, 0, 0]) for image in trips.answers] == [90, 89, 88, 87]
    assert {asked["prompt"] for asked in engine.asked[8:]} == {""}
    assert all(asked["strength"] < 0.1 for asked in engine.asked[8:])


def test_what_was_answered_is_kept_and_not_asked_again(photo: Image.Image, tmp_path: Path) -> None:
    first: Any = CountingEngine()
    answer_edits(first, [photo], ["a cat"], tmp_path, count=2)
    again: Any = CountingEngine()
    answer_edits(again, [photo], ["a cat"], tmp_path, count=3)
    assert len(again.asked) == 3
    kept = list(read_answers(tmp_path))
    assert [len(each.answers) for each in kept] == [4, 4, 4]


def test_tabletop_prompts_use_its_own_words_and_are_the_same_for_a_seed() -> None:
    prompts = tabletop_prompts(40, seed=3)
    assert prompts == tabletop_prompts(40, seed=3)
    assert prompts != tabletop_prompts(40, seed=4)
    assert "background" in prompts
    assert any(prompt.startswith("a ") and len(prompt.split()) == 4 for prompt in prompts)
