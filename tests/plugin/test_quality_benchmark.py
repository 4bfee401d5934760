"""The benchmark of sampling options: gains are paired by edit, and its arms ask for what their names say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.plugin import quality_benchmark
from editcritic.plugin.quality_benchmark import (
    ARMS,
    JUDGES,
    QualityBench,
    figures,
    measure_quality,
    summarise,
)
from editcritic.plugin.quality_samples import rendered
from editcritic.refine.quality_options import QualityOptions
from editcritic.v1.errors import InvalidInput


def row(base: float, gains: dict[str, float]) -> dict[str, dict[str, float]]:
    return {arm: {judge: base + gains.get(arm, 0.0) for judge in JUDGES} for arm in ARMS}


def test_a_gain_that_every_edit_has_is_sure_however_much_edits_differ() -> None:
    rows = [row(base, {"target 90": 2.0}) for base in (10.0, 50.0, 90.0)]
    told = summarise(rows, seed=1)
    assert told["means"]["base"]["evidence"]["mean"] == pytest.approx(50)
    assert told["means"]["base"]["evidence"]["high"] - told["means"]["base"]["evidence"]["low"] > 40
    assert told["gains"]["target 90"]["evidence"] == pytest.approx({"mean": 2.0, "low": 2.0, "high": 2.0})
    assert told["gains"]["target 20"]["network"] == pytest.approx({"mean": 0.0, "low": 0.0, "high": 0.0})
    assert ("target 90: evidence gain", "2 [2, 2]") in figures(told)


def test_where_a_critic_abstains_an_edit_does_not_count() -> None:
    rows = [row(40.0, {}), row(60.0, {})]
    rows[1]["base"]["network"] = float("nan")
    assert summarise(rows, seed=1)["means"]["base"]["network"]["mean"] == pytest.approx(40)


def test_only_the_base_asks_for_nothing() -> None:
    assert [arm for arm, wish in ARMS.items() if wish == QualityOptions()] == ["base"]


def test_edits_are_answered_judged_and_told_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    arms = {"base": QualityOptions(), "target 20": QualityOptions(20)}
    monkeypatch.setattr(quality_benchmark, "ARMS", arms)
    seen: list[tuple[int, int]] = []
    told = measure_quality(QualityBench(tmp_path, count=2, steps=6), lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]
    assert told["edits"] == 2
    assert set(told["rows"][0]) == set(arms)
    assert 0 <= told["means"]["base"]["evidence"]["mean"] <= 100
    assert told["means"]["base"]["followed"]["mean"] in (0.0, 0.5, 1.0)


def test_an_engine_without_the_options_is_refused(tmp_path: Path) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    with pytest.raises(InvalidInput, match="takes no quality target"):
        measure_quality(QualityBench(tmp_path, count=1, engine="dummy"))


def test_true_renderings_have_the_highest_quality_and_faults_lower_it() -> None:
    photos: list[Any] = [Image.fromarray(data.coffee()), Image.fromarray(data.chelsea())]
    clean = rendered(photos, np.random.default_rng(1), spoiled=False)
    spoiled = rendered(photos, np.random.default_rng(1), spoiled=True)
    best = next(clean)
    worse = [next(spoiled) for _ in range(8)]
    assert max(each.quality for each in worse) < best.quality
    assert len({each.quality for each in worse}) == len(worse)
    for each in (best, *worse):
        hole = np.kron(each.hole, np.ones((8, 8), bool))
        np.testing.assert_array_equal(each.picture[~hole], each.source[~hole])
