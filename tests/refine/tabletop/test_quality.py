"""Quality as a condition: off it is the base engine bit for bit, on it changes pictures, and a seed repeats them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage import data

from editcritic.plugin.quality_samples import QualitySample, write_samples
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.tabletop.denoiser import TabletopDenoiser
from editcritic.refine.tabletop.engine import TabletopEngine, load, open_tabletop, weights_folder
from editcritic.refine.tabletop.quality import QualityAdapter, QualityDenoiser, quality_arguments
from editcritic.refine.tabletop.quality_training import main
from editcritic.v1.errors import InvalidInput

STEPS = 6
TWO_MB = 2_000_000


@pytest.fixture(scope="module")
def engine() -> TabletopEngine:
    return open_tabletop(device="cpu")


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    """The wooden table beside the coffee cup, and a round place on it."""
    photo = np.asarray(data.coffee(), np.uint8)
    rows, columns = np.ogrid[: photo.shape[0], : photo.shape[1]]
    return photo, (rows - 300) ** 2 + (columns - 515) ** 2 < 60**2


def answer(
    engine: TabletopEngine, table: Any, quality: QualityOptions | None = None, seed: int = 1
) -> np.ndarray:
    return engine.candidate(*table, "a red ball", seed=seed, steps=STEPS, quality=quality).result()


def noisy_input(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Packed noisy latents with a hole in the middle, a timestep, words."""
    sample = torch.randn(rows, 9, 64, 64, generator=torch.Generator().manual_seed(1))
    sample[:, 4] = 0
    sample[:, 4, 20:44, 20:44] = 1
    return sample, torch.tensor(500), torch.randn(rows, 3, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def small() -> TabletopDenoiser:
    torch.manual_seed(3)
    return TabletopDenoiser(channels=(32, 32, 64), cross_attention_dim=16).eval().requires_grad_(False)


def test_without_a_wish_the_adapter_changes_no_bit(engine: TabletopEngine, table: Any) -> None:
    bare = TabletopEngine(load())
    assert engine.capabilities.quality_target
    assert not bare.capabilities.quality_target
    plain = answer(bare, table)
    np.testing.assert_array_equal(answer(engine, table), plain)
    np.testing.assert_array_equal(answer(engine, table, QualityOptions()), plain)
    # The same engine has painted with a wish in between: nothing of that stays.
    answer(engine, table, QualityOptions(20))
    np.testing.assert_array_equal(answer(engine, table), plain)


def test_an_untrained_adapter_adds_nothing_and_a_trained_one_leaves_the_base_as_it_was(
    small: TabletopDenoiser,
) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    given = noisy_input()
    base = small(*given).sample
    told = QualityDenoiser(small, QualityAdapter.beside(small))
    wish = quality_arguments(90, 0)
    assert torch.equal(told(*given, **wish).sample, base)
    for branch in told.adapter.branches.values():
        torch.nn.init.normal_(branch.to_v.weight)
    assert not torch.equal(told(*given, **wish).sample, base)
    assert torch.equal(told(*given).sample, base)
    assert small.state_dict().keys() == before.keys(), "a saved base must not hold the adapter"
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


def test_guidance_leads_from_low_to_wanted_quality_by_its_weight(small: TabletopDenoiser) -> None:
    told, given = QualityDenoiser(small, QualityAdapter.beside(small)), noisy_input()
    for branch in told.adapter.branches.values():
        torch.nn.init.normal_(branch.to_v.weight)
    high, low = (told(*given, **quality_arguments(level, 0)).sample for level in (70, 20))
    led = told(*given, **quality_arguments(70, 1.5)).sample
    assert (high - low).abs().max() > 1e-3
    torch.testing.assert_close(led, high + 1.5 * (high - low), rtol=1e-3, atol=1e-3)


def test_a_wanted_quality_changes_the_picture_and_the_seed_repeats_it(
    engine: TabletopEngine, table: Any
) -> None:
    plain = answer(engine, table)
    high, low, led = (
        answer(engine, table, wish)
        for wish in (QualityOptions(90), QualityOptions(20), QualityOptions(90, 1.5))
    )
    pictures = [plain, high, low, led]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    np.testing.assert_array_equal(answer(engine, table, QualityOptions(90, 1.5)), led)
    assert not np.array_equal(answer(engine, table, QualityOptions(90, 1.5), seed=2), led)


def test_a_pause_changes_no_bit_of_a_guided_answer(engine: TabletopEngine, table: Any) -> None:
    wish = QualityOptions(80, 1.0)
    paused = engine.candidate(*table, "a red ball", seed=1, steps=STEPS, quality=wish)
    for share in (0.3, 0.7):
        paused.advance(share)
        paused.preview()
    np.testing.assert_array_equal(paused.result(), answer(engine, table, wish))


def test_candidates_of_different_wishes_advance_together_undisturbed(
    engine: TabletopEngine, table: Any
) -> None:
    wishes = [None, QualityOptions(90), QualityOptions(20)]
    together = [engine.candidate(*table, "a red ball", seed=1, steps=STEPS, quality=wish) for wish in wishes]
    engine.advance(together, 1.0)
    for wish, candidate in zip(wishes, together, strict=True):
        # In company a step may round differently.
        difference = np.abs(candidate.result().astype(int) - answer(engine, table, wish))
        assert difference.max() <= 2


def test_a_base_without_an_adapter_refuses_a_target(table: Any) -> None:
    with pytest.raises(InvalidInput, match="takes no quality target"):
        TabletopEngine(load()).candidate(*table, "a red ball", seed=1, quality=QualityOptions(90))


def test_the_adapter_is_small_half_precision_and_on_the_model_card() -> None:
    file = weights_folder() / "quality.safetensors"
    assert file.stat().st_size < TWO_MB
    assert {tensor.dtype for tensor in load_file(file).values()} == {torch.float16}
    assert "## Quality adapter" in (weights_folder() / "MODEL_CARD.md").read_text()


def test_training_resumes_and_its_adapter_is_opened_beside_its_base(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    hole = np.zeros((16, 16), bool)
    hole[5:11, 5:11] = True
    source = rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)
    samples = [
        QualitySample(source, source, hole, "red ball", quality) for quality in (91.0, 20.0, float("nan"))
    ]
    (tmp_path / "samples").mkdir()
    write_samples(samples, tmp_path / "samples" / "some.npz")
    base = tmp_path / "base"
    pipeline = load()
    torch.manual_seed(5)
    pipeline.unet = TabletopDenoiser(channels=(32, 32, 64))
    pipeline.save_pretrained(base)
    common = [
        "--samples",
        str(tmp_path / "samples"),
        "--out",
        str(tmp_path),
        "--pipeline",
        str(base),
        "--batch",
        "2",
    ]
    main([*common, "--minutes", "0.01"])
    first = torch.load(tmp_path / "checkpoints" / "quality.pt", weights_only=True)
    main([*common, "--minutes", "0.03"])
    second = torch.load(tmp_path / "checkpoints" / "quality.pt", weights_only=True)
    assert second["step"] > first["step"] > 0
    (tmp_path / "quality.safetensors").rename(base / "quality.safetensors")
    assert open_tabletop(device="cpu", folder=base).capabilities.quality_target


def test_training_without_samples_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="quality_samples"):
        main(["--samples", str(tmp_path), "--out", str(tmp_path / "out"), "--minutes", "0.01"])
