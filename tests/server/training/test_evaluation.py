"""Injected defects and the report on how a critic does on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from editcritic.server.training.defects import INJECTIONS, EditCase, clean_control, draw_mask, inject, soften
from editcritic.server.training.evaluation import CLEAN_MASKS, build_case, evaluate, list_jobs
from editcritic.server.training.report import wilson
from editcritic.server.training.thresholds import clean_strengths, threshold_factors
from editcritic.v1.errors import InvalidInput


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("coffee", "astronaut", "chelsea"):
        photo = np.asarray(getattr(data, name)(), np.uint8)
        Image.fromarray(photo[:240, :300]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def case() -> EditCase:
    photo, donor = (np.asarray(each()[:256, :256], np.uint8) for each in (data.coffee, data.astronaut))
    return clean_control(photo, donor, draw_mask((256, 256), 5), 5)


def outside(case: EditCase) -> NDArray[np.bool_]:
    return case.mask == 0


def test_a_clean_control_is_the_untouched_photograph_of_an_edit_that_had_to_happen(case: EditCase) -> None:
    photo = np.asarray(data.coffee()[:256, :256], np.uint8)
    assert np.array_equal(case.candidate, photo)
    assert np.array_equal(case.source[outside(case)], photo[outside(case)])
    inside = case.mask > 0.5
    assert np.abs(case.source[inside].astype(int) - photo[inside]).mean() > 10


@pytest.mark.parametrize("name", INJECTIONS)
def test_an_injection_changes_only_its_side_of_the_mask(case: EditCase, name: str) -> None:
    spoiled = inject(case, name, 1.0, 3)
    changed = (spoiled.candidate != case.candidate).any(axis=2)
    assert changed.any()
    if name == "outside_changed":
        assert not changed[case.mask > 0.5].all()
        assert changed[outside(case)].any()
    else:
        assert not changed[outside(case)].any()


@pytest.mark.parametrize("name", INJECTIONS)
def test_an_injection_is_the_same_for_the_same_seed_and_grows_with_severity(
    case: EditCase, name: str
) -> None:
    mild, severe = (inject(case, name, severity, 3).candidate.astype(int) for severity in (0.3, 1.0))
    assert np.array_equal(severe, inject(case, name, 1.0, 3).candidate)
    assert np.abs(severe - case.candidate).sum() > np.abs(mild - case.candidate).sum()


@pytest.mark.parametrize("severity", [0.0, -1.0, 1.1])
def test_a_severity_beyond_its_range_is_refused(case: EditCase, severity: float) -> None:
    with pytest.raises(ValueError, match="severity"):
        inject(case, "blur", severity, 0)


def test_masks_are_of_a_sensible_size_and_follow_their_seed() -> None:
    shares = [float(draw_mask((200, 300), seed).mean()) for seed in range(30)]
    assert min(shares) > 0.02
    assert max(shares) < 0.4
    assert np.array_equal(draw_mask((200, 300), 7), draw_mask((200, 300), 7))
    soft = soften(draw_mask((200, 300), 7), 3.0)
    assert ((soft > 0) & (soft < 1)).any()


def test_jobs_follow_their_seed_and_use_the_split(photos: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file,split\ncoffee.png,train\nchelsea.png,val\nastronaut.png,val\n")
    jobs = list_jobs(photos, manifest=manifest, split="val", seed=4)
    assert {job.photo.stem for job in jobs} == {"chelsea", "astronaut"}
    assert jobs == list_jobs(photos, manifest=manifest, split="val", seed=4)


def test_an_object_mask_of_the_photograph_is_used_when_there_is_one(photos: Path, tmp_path: Path) -> None:
    drawn = np.zeros((240, 300), np.uint8)
    drawn[100:140, 100:160] = 255
    for photo in photos.iterdir():
        Image.fromarray(drawn).save(tmp_path / f"{photo.stem}_0.png")
    masks = [
        build_case(job).mask for seed in range(6) for job in list_jobs(photos, masks=tmp_path, seed=seed)
    ]
    assert any(np.array_equal(mask > 0.5, drawn > 0) for mask in masks)


def test_the_report_counts_what_was_judged(photos: Path) -> None:
    told: list[tuple[int, int]] = []
    report = evaluate("evidence", photos, limit=2, workers=1, progress=lambda *now: told.append(now))
    assert told == [(1, 2), (2, 2)]
    assert report.photographs == 2
    assert report.clean_flagged.count == 2 * CLEAN_MASKS
    assert {kind.name for kind in report.kinds} <= set(INJECTIONS)
    outside_changed = next(kind for kind in report.kinds if kind.name == "outside_changed")
    assert outside_changed.found[-1].value == 1.0
    assert all(len(row) == len(report.columns) for row in report.rows())
    assert report.to_markdown().startswith("| defect |")


def test_a_folder_without_photographs_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no photographs"):
        evaluate("evidence", tmp_path)


def test_an_interval_holds_the_share_and_narrows_with_cases() -> None:
    few, many = wilson(3, 10), wilson(300, 1000)
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low
    # 3 of 10, worked by hand from Wilson's formula with z = 1.96
    assert (few.low, few.high) == (pytest.approx(0.1078, abs=5e-4), pytest.approx(0.6032, abs=5e-4))


def test_a_threshold_factor_lets_one_control_in_so_many_pass() -> None:
    strengths = {"seam": [number / 100 for number in range(100)], "rare": [5.0]}
    factors = threshold_factors(strengths, photographs=100, one_in=10)
    assert factors["seam"] == pytest.approx(0.9, abs=0.02)
    assert factors["rare"] == 0.0


def test_clean_strengths_name_kind_and_figure(photos: Path) -> None:
    found = clean_strengths(list_jobs(photos)[0])
    assert "DEFECT_KIND_SEAM/border_step" in found
    assert all(strength >= 0 for strength in found.values())
