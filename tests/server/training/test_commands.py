"""`editcritic train` and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from editcritic.plugin.cli.app import app
from editcritic.refine.tabletop.words import THINGS
from editcritic.server.critics import CRITICS, DEFAULT_CRITIC, critic_name, load_critic
from editcritic.server.critics.alignment import load_head
from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.server.training.stages import STAGES
from editcritic.v1.errors import InvalidInput, NotFound

runner = CliRunner()


def test_the_gallery_is_a_picture_of_pairs(photo_folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "pairs.png"
    asked = [
        "train",
        "gallery",
        "--images",
        str(photo_folder),
        "--out",
        str(picture),
        "-n",
        "2",
        "--side",
        "96",
    ]
    assert runner.invoke(app, asked).exit_code == 0
    with Image.open(picture) as sheet:
        assert sheet.size[1] > 300


def test_an_unknown_stage_is_named_with_those_there_are(photo_folder: Path, tmp_path: Path) -> None:
    asked = ["train", "network", "--images", str(photo_folder), "--out", str(tmp_path), "--stages", "magic"]
    result = runner.invoke(app, asked)
    assert result.exit_code == 2
    assert "magic" in result.stderr
    assert all(name in result.stderr for name in STAGES)


def test_a_folder_without_photographs_is_told(tmp_path: Path) -> None:
    result = runner.invoke(
        app, ["train", "network", "--images", str(tmp_path), "--out", str(tmp_path / "run")]
    )
    assert result.exit_code == 2
    assert "no photographs" in result.stderr


def test_a_critic_is_calibrated_on_photographs_and_served_from_its_folder(
    photo_folder: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    # One photograph in twelve is left aside for calibration.
    for number in range(12):
        name = sorted(photo_folder.glob("*.png"))[number % 4]
        (photos / f"{number:02d}.png").write_bytes(name.read_bytes())
    weights = str(WEIGHTS / "network.safetensors")
    asked = [
        "train",
        "calibrate",
        "--images",
        str(photos),
        "--out",
        str(tmp_path / "mine"),
        "--weights",
        weights,
    ]
    result = runner.invoke(app, asked)
    assert result.exit_code == 0, result.stderr
    told = json.loads((tmp_path / "mine" / "calibration.json").read_text())
    assert told["name"] == "custom-1"
    assert set(told["curves"]) == {"naturalness", "harmony", "preservation", "visual_quality"}
    critic = load_critic(f"network@{tmp_path / 'mine'}")
    assert critic.info.identity.calibration == "custom-1"
    assert critic_name(f"network@{tmp_path / 'mine'}") == "network"


def test_weights_go_to_critics_that_have_them_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no weights"):
        load_critic(f"evidence@{tmp_path}")
    with pytest.raises(InvalidInput, match="no weights"):
        load_critic(f"network@{tmp_path}")
    with pytest.raises(NotFound, match="network"):
        load_critic("mars")
    assert next(iter(CRITICS)) == DEFAULT_CRITIC


def test_an_evaluation_leaves_a_page_and_figures(photo_folder: Path, tmp_path: Path) -> None:
    asked = ["eval", "--images", str(photo_folder), "--critic", "evidence", "--limit", "1", "--workers", "1"]
    result = runner.invoke(app, [*asked, "--against", "dummy", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["totals"]["severities_ordered"]["count"] > 10
    assert json.loads((tmp_path / "eval.json").read_text()) == told
    (other,) = told["against"]
    assert other["critic"] == "dummy"
    assert other["totals"]["severities_ordered"]["value"] < told["totals"]["severities_ordered"]["value"]
    page = (tmp_path / "eval.html").read_text()
    assert "Injected defects" in page
    assert "<th>evidence</th><th>dummy</th>" in page


def test_opinions_need_a_known_layout(tmp_path: Path) -> None:
    result = runner.invoke(
        app, ["opinions", "--table", "x.csv", "--images", str(tmp_path), "--layout", "moon"]
    )
    assert result.exit_code == 2
    assert "koniq" in result.stderr


def test_opinions_are_compared(tmp_path: Path) -> None:
    lines = ["image_name,MOS"]
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = rng.integers(0, 40 * (number + 1), (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{5 - number}")
    table = tmp_path / "mos.csv"
    table.write_text("\n".join(lines))
    asked = ["opinions", "--table", str(table), "--images", str(tmp_path), "--layout", "koniq", "--json"]
    result = runner.invoke(app, [*asked, "--critic", "dummy"])
    assert result.exit_code == 0, result.stderr
    named = {figure["name"]: figure["value"] for figure in json.loads(result.stdout)["figures"]}
    # The dummy critic likes brightness, and the opinions fall with it.
    assert named["SRCC"] == pytest.approx(-1)


def test_too_few_pictures_to_adapt_the_alignment_head_is_told(photo_folder: Path, tmp_path: Path) -> None:
    asked = ["train", "adapt-alignment", "--images", str(photo_folder), "--out", str(tmp_path)]
    result = runner.invoke(app, [*asked, "--renderings", "1", "--answers", "0", "--steps", "1"])
    assert result.exit_code == 2
    assert "too few" in result.stderr


def test_the_alignment_head_is_adapted_to_what_the_engine_paints(photo_folder: Path, tmp_path: Path) -> None:
    asked = ["train", "adapt-alignment", "--images", str(photo_folder), "--out", str(tmp_path)]
    result = runner.invoke(app, [*asked, "--renderings", "5", "--answers", "4", "--steps", "1"])
    assert result.exit_code == 0, result.output
    assert "finish: read as told" in result.stdout
    adapted, shipped = (
        load_head(tmp_path / "alignment.safetensors"),
        load_head(WEIGHTS / "alignment.safetensors"),
    )
    assert adapted.vocabulary.followed == shipped.vocabulary.followed
    assert shipped.vocabulary.plainness["finish"].keys() == set(THINGS)
    assert adapted.vocabulary.plainness == {"finish": {}}, (
        "four answers do not tell how plainly a finish shows"
    )
