"""The oracle, and the measurements that rest on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.plugin.loop_benchmark import LoopBench, LoopMeasure, measure_loop
from editcritic.plugin.loop_figures import figure_rows, summarise
from editcritic.plugin.loop_plot import draw_loop_plot
from editcritic.plugin.oracle.cases import asked_edits, oracle_accuracy
from editcritic.plugin.oracle.repainted import repaint, repainted_accuracy, sight_of
from editcritic.plugin.oracle.sight import Oracle, Sight, view
from editcritic.plugin.oracle.train import main as train_oracle
from editcritic.plugin.tabletop_benchmark import measure_engine
from editcritic.refine.engine import load_engine
from editcritic.refine.tabletop.words import read_prompt
from editcritic.server.training.named_answers import read_named
from tests.refine.critics import PlainCritic


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Photographs that the oracle did not learn from."""
    return [Image.fromarray(each) for each in (data.coffee(), data.chelsea(), data.astronaut())]


def test_it_names_shape_and_colour_of_true_renderings(photos: list[Image.Image]) -> None:
    # 98.6 % on a thousand; four hundred leave room for chance.
    assert oracle_accuracy(Oracle(), photos, 400, seed=3) > 0.965


def test_renderings_that_the_engine_painted_again_keep_their_names(
    photos: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import editcritic.plugin.oracle.train as training

    for name, few in {"_POOL": 64, "_FIRST": 16, "_BATCH": 8}.items():
        monkeypatch.setattr(training, name, few)
    engine = load_engine("tabletop")
    repaint(engine, photos, tmp_path, 4, seed=5)
    painted = read_named(tmp_path)
    assert len(painted) == 4
    assert {each.image.shape[2] for each in painted} == {3}
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    repaint(engine, photos, tmp_path, 4, seed=5)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == kept
    right = [Oracle().look(each.image, each.mask > 0) == sight_of(each) for each in painted]
    assert repainted_accuracy(Oracle(), tmp_path) == sum(right) / 4
    out = tmp_path / "oracle.safetensors"
    go_on = ["--repainted", str(tmp_path), "--minutes", "0.005", "--out", str(out)]
    folder = tmp_path / "photos"
    folder.mkdir()
    photos[0].save(folder / "coffee.png")
    train_oracle(["--images", str(folder), *go_on])
    assert Oracle([out]).look(painted[0].image, painted[0].mask > 0)


def test_a_picture_and_its_mirror_image_show_the_same(photos: list[Image.Image]) -> None:
    oracle = Oracle()
    for case in asked_edits(photos, 6, 5):
        there, back = case.source[:, ::-1].copy(), case.mask[:, ::-1].copy()
        assert oracle.look(case.source, case.mask) == oracle.look(there, back)


def test_it_looks_inside_the_mask_only() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (200, 300, 3), dtype=np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[80:120, 150:200] = True
    elsewhere = picture.copy()
    elsewhere[:60], elsewhere[:, :120] = 0, 255
    np.testing.assert_array_equal(view(picture, mask), view(elsewhere, mask))
    assert Oracle().look(picture, mask) == Oracle().look(elsewhere, mask)


def test_edits_are_named_by_their_seed_and_ask_for_what_they_want(photos: list[Image.Image]) -> None:
    first, again = asked_edits(photos, 12, 5), asked_edits(photos, 12, 5)
    for one, other in zip(first, again, strict=True):
        assert one.prompt == other.prompt
        np.testing.assert_array_equal(one.source, other.source)
        wish = read_prompt(one.prompt)
        assert (wish.shape, wish.colour) == (one.wanted.shape, one.wanted.colour)
    assert [case.wanted for case in first].count(Sight(None, None)) == 2


def test_an_engine_that_paints_colours_at_random_follows_hardly_any_prompt(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    figures = measure_engine(
        load_engine("dummy"), photos, count=18, seed=1, oracle_count=60, sheet=tmp_path / "sheet.png"
    )
    assert figures["cases"] == 18
    assert figures["shape_and_colour"] < 0.3
    assert figures["oracle_on_true_renderings"] > 0.9
    assert np.asarray(Image.open(tmp_path / "sheet.png")).shape[1] > 1000


def test_what_the_loop_is_worth_is_measured_against_one_seed(
    photos: list[Image.Image], tmp_path: Path
) -> None:
    bench = LoopBench(tmp_path, count=4, candidates=4, rounds=1, seed=1)
    held_out = PlainCritic(lambda picture, mask: float(picture[mask > 0.5].std()))
    measuring = LoopMeasure(bench, load_engine("dummy"), PlainCritic(), held_out)
    cases = asked_edits(photos, bench.count, bench.seed)
    result = summarise([measuring.measure(number, case) for number, case in enumerate(cases)], seed=1)
    arms = result["arms"]
    assert arms["plain"]["evaluations"]["mean"] == 10
    assert arms["best_of_n"]["evaluations"]["mean"] == 40
    assert arms["race"]["evaluations"]["mean"] <= 40
    assert arms["loop"]["evaluations"]["mean"] <= 40, "the loop may spend what best-of-N did"
    assert (
        arms["plain"]["score"]["mean"] <= arms["race"]["score"]["mean"] <= arms["best_of_n"]["score"]["mean"]
    )
    assert arms["loop"]["score_gain"]["low"] >= 0
    assert arms["plain"]["held_out"] != arms["plain"]["score"]
    assert result["share_of_best_of_n"]["race"]["gain"]["mean"] <= 1
    assert set(result["preview_correlation"]) == {"0.2", "0.3", "0.4", "0.6"}
    assert 0 < result["critic_share_of_time"] < 1
    draw_loop_plot(result, tmp_path / "plot.png")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "plot.png")))) > 10
    names = [name for name, _ in figure_rows(result)]
    assert "arms: race: score gain" in names
    assert "race risk: stated" in names


def test_the_loop_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "photo.png")
    bench = LoopBench(
        tmp_path, count=2, candidates=2, rounds=0, seed=1, engine="dummy", critic="dummy", oracle_count=4
    )
    result = measure_loop(bench, workers=2)
    assert (result["edits"], len(result["rows"])) == (2, 2)


def test_training_writes_weights_that_can_be_loaded(tmp_path: Path) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "photo.png")
    import editcritic.plugin.oracle.train as training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_POOL", 64)
        patch.setattr(training, "_FIRST", 32)
        patch.setattr(training, "_BATCH", 8)
        train_oracle(
            ["--images", str(tmp_path), "--minutes", "0.03", "--out", str(tmp_path / "oracle.safetensors")]
        )
    sight = Oracle([tmp_path / "oracle.safetensors"]).look(data.coffee(), np.eye(400, 600, dtype=bool))
    assert isinstance(sight, Sight)
