"""The embedded engine as shipped: opens without a network, follows prompts, removes, says what it cannot read."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from skimage import data

from editcritic.plugin.oracle.sight import Oracle, Sight
from editcritic.refine.engine import load_engine
from editcritic.refine.tabletop.engine import (
    TabletopEngine,
    UnknownWords,
    load,
    open_tabletop,
    weights_folder,
)

TENS_OF_MB = 60e6


@pytest.fixture(scope="module")
def engine() -> TabletopEngine:
    return open_tabletop(device="cpu")


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """The wooden table beside the coffee cup, and a round place on it."""
    photo = np.asarray(data.coffee(), np.uint8)
    rows, columns = np.ogrid[: photo.shape[0], : photo.shape[1]]
    return photo, (rows - 300) ** 2 + (columns - 515) ** 2 < 60**2


def test_it_opens_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any) -> Any:
        raise AssertionError("something tried to open a connection")

    monkeypatch.setattr("socket.socket.connect", refused)
    able = load_engine("tabletop", device="cpu").capabilities
    assert (able.name, able.pipeline_class, able.native) == (
        "tabletop",
        "StableDiffusionInpaintPipeline",
        128,
    )
    assert able.mask_use == "concatenated"
    assert {"ball", "red", "shiny", "background"} <= set(able.words)


def test_it_is_a_stock_pipeline_of_half_precision_safetensors_with_a_model_card() -> None:
    pipeline = load()
    assert type(pipeline).__module__.startswith("diffusers.")
    assert pipeline.unet.config.in_channels == 2 * pipeline.vae.config.latent_channels + 1
    files = [file for file in weights_folder().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < TENS_OF_MB
    assert not [file for file in files if file.suffix in (".bin", ".pt", ".pkl")]
    card = (weights_folder() / "MODEL_CARD.md").read_text()
    for part in ("Data", "Recipe", "Measured", "Limits"):
        assert f"## {part}" in card


# Wishes that a person can check on one plain place; the rate over many photographs stands in the model card.
WISHES = [
    ("blue", "ball"),
    ("blue", "cone"),
    ("pink", "cone"),
    ("green", "star"),
    ("purple", "ring"),
    ("cyan", "ball"),
]


def test_it_puts_there_what_the_prompt_asks_for(
    engine: TabletopEngine, table: tuple[np.ndarray, np.ndarray]
) -> None:
    oracle, right = Oracle(), 0
    for colour, shape in WISHES:
        result = engine.candidate(*table, f"a matte {colour} {shape}", seed=1).result()
        right += oracle.look(result, table[1]) == Sight(shape, colour)
    assert right >= len(WISHES) - 1


def test_word_order_and_synonyms_do_not_change_what_is_painted(
    engine: TabletopEngine, table: tuple[np.ndarray, np.ndarray]
) -> None:
    oracle = Oracle()
    for prompt in ("red ball", "ball, red", "a glossy RED sphere"):
        assert oracle.look(engine.candidate(*table, prompt, seed=2).result(), table[1]) == Sight(
            "ball", "red"
        )


@pytest.mark.parametrize("prompt", ["", "background"])
def test_it_takes_things_out(
    engine: TabletopEngine, table: tuple[np.ndarray, np.ndarray], prompt: str
) -> None:
    photo, mask = table
    cluttered = photo.copy()
    cluttered[mask] = (20, 200, 240)
    result = engine.candidate(cluttered, mask, prompt, seed=1).result()
    assert Oracle().look(result, mask) == Sight(None, None)
    # The wood is brown: what was there must be gone without a trace of its colour.
    assert np.abs(result[mask].mean(axis=0) - photo[mask].mean(axis=0)).max() < 40


def test_unknown_words_are_named_with_the_known_ones_and_left_out(
    engine: TabletopEngine, table: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.warns(UnknownWords, match=r"'dragon'.*ball, cube, cone"):
        odd = engine.candidate(*table, "a red ball with a dragon", seed=3)
    assert "'dragon'" in odd.notes[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(odd.result(), engine.candidate(*table, "red ball", seed=3).result())


def test_a_twenty_megapixel_photograph_costs_no_more_steps_than_a_small_one(engine: TabletopEngine) -> None:
    photo = np.kron(np.asarray(data.coffee())[:365, :548], np.ones((10, 10, 1), np.uint8))
    mask = np.zeros(photo.shape[:2], bool)
    mask[2000:3000, 1500:2600] = True
    candidate = engine.candidate(photo, mask, "a red ball", seed=1, steps=4)
    result = candidate.result()
    assert photo.shape[0] * photo.shape[1] > 19e6
    assert (candidate.frame.width, candidate.frame.height, candidate.evaluations) == (128, 128, 4)
    np.testing.assert_array_equal(result[candidate.blend_mask == 0], photo[candidate.blend_mask == 0])
