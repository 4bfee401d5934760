"""The training script: it learns, resumes where it stopped, and exports what the stock pipeline runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from editcritic.refine.tabletop.autoencoder import PatchAutoencoder, fit_autoencoder
from editcritic.refine.tabletop.denoiser import TabletopDenoiser, smooth_fill
from editcritic.refine.tabletop.engine import open_tabletop
from editcritic.refine.tabletop.packing import pack, unpack
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.recipe import make_tokenizer
from editcritic.refine.tabletop.runs import Clock, learning_rate
from editcritic.refine.tabletop.train import main
from editcritic.refine.tabletop.world import crop_photo


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name, picture in {"coffee": data.coffee(), "cat": data.chelsea()}.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    Image.new("RGB", (40, 40)).save(folder / "stamp.png")
    return folder


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    rng, photo = np.random.default_rng(1), Image.fromarray(data.coffee())
    return np.stack([crop_photo(photo, rng) for _ in range(60)])


def as_input(crops: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).mul(2).sub(1).contiguous()


def test_packing_is_undone_by_unpacking() -> None:
    cells = torch.randn(2, 32, 4, 6)
    latents = pack(cells)
    assert latents.shape == (2, 4, 16, 24)
    assert torch.equal(unpack(latents), cells)


def test_the_linear_autoencoder_gives_photographs_back(crops: np.ndarray) -> None:
    vae = fit_autoencoder(crops)
    pictures = as_input(crops[:8])
    with torch.no_grad():
        back = vae.decode(vae.encode(pictures).latents).sample
    error = (back - pictures).square().mean() / 4
    assert -10 * torch.log10(error) > 26, "decibels of 32 components on 8x8 patches"
    assert vae.to_cells(as_input(crops)).detach().square().mean().sqrt() == pytest.approx(1.0, rel=0.05)


def test_a_cell_knows_only_its_own_pixels(crops: np.ndarray) -> None:
    vae = fit_autoencoder(crops)
    changed = crops[:1].copy()
    changed[:, 40:48, 64:72] = 0.5
    difference = (vae.to_cells(as_input(changed)) - vae.to_cells(as_input(crops[:1]))).abs().sum(1)[0]
    assert difference.nonzero().tolist() == [[5, 8]]


def test_the_fill_continues_what_is_known() -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 16, 16).contiguous()
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5:11, 5:11] = 1
    filled = smooth_fill(ramp, mask)
    assert torch.equal(filled[mask == 0], ramp[mask == 0])
    assert (filled - ramp).abs().max() < 0.2
    assert torch.equal(smooth_fill(ramp, torch.ones_like(mask)), torch.zeros_like(ramp))


def test_what_lies_under_the_mask_never_reaches_the_denoiser() -> None:
    torch.manual_seed(2)
    net = TabletopDenoiser(channels=(32, 32, 64), cross_attention_dim=16).eval()
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:9, 4:9] = 1
    noisy, words, kept = torch.randn(1, 32, 16, 16), torch.randn(1, 3, 16), torch.randn(1, 32, 16, 16)
    other = torch.where(mask > 0, torch.randn(1, 32, 16, 16), kept)
    with torch.no_grad():
        outputs = [net.clean_cells(noisy, mask, k, torch.tensor(500), words) for k in (kept, other)]
    assert torch.equal(*outputs)
    assert torch.equal((outputs[0] * (1 - mask)), kept * (1 - mask))


def test_every_known_word_is_one_token_and_unknown_ones_fall_to_letters() -> None:
    tokenizer = make_tokenizer()
    assert len(tokenizer("red ball").input_ids) == 4
    assert len(tokenizer("dragon").input_ids) == 8


def test_small_photographs_are_left_out_and_an_empty_folder_is_told(
    photographs: Path, tmp_path: Path
) -> None:
    assert len(read_photos(photographs)) == 2
    with pytest.raises(FileNotFoundError, match=r"expected \.jpg or \.png"):
        read_photos(tmp_path)


def test_the_learning_rate_warms_up_holds_and_falls() -> None:
    rates = [learning_rate(share, 1.0) for share in (0.0, 0.01, 0.3, 0.775, 1.0)]
    assert rates[0] < rates[1] < rates[2] == 1.0
    assert rates[2:] == pytest.approx([1.0, 0.5, 0.02])


def test_time_of_earlier_runs_counts() -> None:
    assert Clock(before=30.0, minutes=1.0, interval=60).progress == pytest.approx(0.5, abs=0.05)
    assert Clock(before=61.0, minutes=1.0, interval=60).progress == 1.0


def test_a_run_resumes_and_is_exported_to_a_folder_that_the_engine_opens(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A narrow network in place of the shipped one: the script is under test, not its result.
    monkeypatch.setattr("editcritic.refine.tabletop.decoder._FIT_ON", 60)
    monkeypatch.setattr("editcritic.refine.tabletop.decoder._STOCK", 8)
    monkeypatch.setattr("editcritic.refine.tabletop.training._FIRST_SCENES", 16)
    monkeypatch.setattr(
        "editcritic.refine.tabletop.training.TabletopDenoiser",
        lambda: TabletopDenoiser(channels=(32, 32, 64), cross_attention_dim=96),
    )
    common = [
        "--images",
        str(photographs),
        "--out",
        str(tmp_path),
        "--batch",
        "4",
        "--pool",
        "16",
        "--device",
        "cpu",
    ]
    main([*common, "--minutes", "0.01"])
    checkpoint = tmp_path / "checkpoints" / "denoiser.pt"
    first = torch.load(checkpoint, weights_only=True)
    main([*common, "--minutes", "0.05", "--stage", "denoiser"])
    second = torch.load(checkpoint, weights_only=True)
    assert second["step"] > first["step"] > 0
    assert second["seconds"] > first["seconds"]

    engine = open_tabletop(device="cpu", folder=tmp_path / "pipeline")
    source = np.asarray(data.coffee())[:200, :260].copy()
    mask = np.zeros(source.shape[:2], bool)
    mask[60:120, 80:150] = True
    assert engine.candidate(source, mask, "red ball", seed=1, steps=2).result().shape == source.shape
    assert isinstance(engine.pipeline.vae, PatchAutoencoder)


def test_progress_is_written_as_lines(tmp_path: Path) -> None:
    from editcritic.refine.tabletop.runs import report

    report(tmp_path, stage="denoiser", step=50, loss=0.123456789)
    assert json.loads((tmp_path / "progress.jsonl").read_text()) == {
        "stage": "denoiser",
        "step": 50,
        "loss": 0.12346,
    }
