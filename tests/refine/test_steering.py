"""A score that can be climbed moves the last steps; nobody is steered who did not ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor

from editcritic.refine.geometry import composite, plan_frame
from editcritic.refine.masks import edit_masks
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.steering import Layer
from editcritic.refine.tabletop.engine import TabletopEngine, load
from editcritic.v1.errors import InvalidInput

STEPS = 8
STEERED = QualityOptions(critic_guidance=1.0)


class Greenness:
    """How green the edit is: a score whose gradient is known. opened: the places at which it was asked to look."""

    def __init__(self) -> None:
        self.opened: list[tuple[slice, slice]] = []

    def open(
        self, source: Any, mask: Any, blend: Any, place: tuple[slice, slice]
    ) -> Callable[[Tensor], Tensor]:
        self.opened.append(place)
        return lambda picture: picture[1].mean() - picture[0].mean() / 2 - picture[2].mean() / 2


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    photo = np.asarray(data.coffee(), np.uint8)
    rows, columns = np.ogrid[: photo.shape[0], : photo.shape[1]]
    return photo, (rows - 300) ** 2 + (columns - 515) ** 2 < 60**2


@pytest.fixture
def engine() -> TabletopEngine:
    made = TabletopEngine(load())
    made.steering = Greenness()
    return made


def greenness(picture: np.ndarray, mask: np.ndarray) -> float:
    red, green, blue = picture[mask].astype(float).mean(axis=0)
    return float(green - red / 2 - blue / 2)


def test_the_steering_score_rises_and_only_inside_the_blend_mask(engine: TabletopEngine, table: Any) -> None:
    photo, mask = table
    plain = engine.candidate(*table, "a red ball", seed=1, steps=STEPS)
    steered = engine.candidate(*table, "a red ball", seed=1, steps=STEPS, quality=STEERED)
    assert greenness(steered.result(), mask) > greenness(plain.result(), mask) + 0.5
    outside = steered.blend_mask == 0
    np.testing.assert_array_equal(steered.result()[outside], photo[outside])


def test_more_strength_climbs_further_and_none_changes_no_bit(engine: TabletopEngine, table: Any) -> None:
    mask = table[1]
    rising = [
        engine.candidate(
            *table, "a red ball", seed=1, steps=STEPS, quality=QualityOptions(critic_guidance=strength)
        ).result()
        for strength in (0.0, 0.5, 1.0)
    ]
    scores = [greenness(picture, mask) for picture in rising]
    assert scores == sorted(scores)
    np.testing.assert_array_equal(
        rising[0], engine.candidate(*table, "a red ball", seed=1, steps=STEPS).result()
    )


def test_a_pause_changes_no_bit_of_a_steered_answer(engine: TabletopEngine, table: Any) -> None:
    straight = engine.candidate(*table, "a red ball", seed=1, steps=STEPS, quality=STEERED).result()
    paused = engine.candidate(*table, "a red ball", seed=1, steps=STEPS, quality=STEERED)
    for share in (0.5, 0.8):
        paused.advance(share)
        paused.preview()
    np.testing.assert_array_equal(paused.result(), straight)


def test_without_a_critic_to_follow_it_is_refused(table: Any) -> None:
    with pytest.raises(InvalidInput, match=r"set engine\.steering"):
        TabletopEngine(load()).candidate(*table, "a red ball", seed=1, quality=STEERED)


@pytest.mark.parametrize("size", [(128, 128), (200, 300), (90, 60)])
def test_the_layer_is_the_composite_without_its_rounding(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    source = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[10:60, 5:45] = True
    marked, blend = edit_masks(source, mask, None)
    frame = plan_frame(np.maximum(marked, blend), 128, 8, 1.9, True)
    picture = rng.random((frame.height, frame.width, 3), np.float32)
    laid = Layer(source, blend, frame)(torch.from_numpy(picture).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    expected = composite(source, picture, blend, frame)[frame.place]
    assert np.abs(255 * laid - expected).max() <= 0.51
