"""A judge that knows untouched photographs and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.stats import gennorm
from skimage import data

from editcritic.plugin.natural_statistics.features import asymmetric_fit, symmetric_fit
from editcritic.plugin.natural_statistics.fit import draw_untouched, fit
from editcritic.plugin.natural_statistics.fit import main as fit_main
from editcritic.plugin.natural_statistics.judge import NaturalStatistics
from editcritic.plugin.natural_statistics.measure import Order, orders, table
from editcritic.server.training.evaluation import list_jobs
from editcritic.v1.errors import InvalidInput

Pixels = NDArray[np.uint8]


def blurred(photo: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2)))


def grainy(photo: Pixels) -> Pixels:
    grain = np.random.default_rng(1).normal(0, 15, photo.shape)
    return np.asarray(np.clip(photo + grain, 0, 255), np.uint8)


def blocky(photo: Pixels) -> Pixels:
    kept = io.BytesIO()
    Image.fromarray(photo).save(kept, "JPEG", quality=6)
    return np.asarray(Image.open(kept))


def plain(photo: Pixels) -> Pixels:
    return np.full_like(photo, 128)


@pytest.fixture(scope="module")
def judge() -> NaturalStatistics:
    return NaturalStatistics()


@pytest.fixture(scope="module")
def photos() -> dict[str, Pixels]:
    """Photographs that the statistics are not of, 200 px wide."""
    found = {"coffee": data.coffee(), "cat": data.chelsea(), "astronaut": data.astronaut()}
    return {name: np.asarray(Image.fromarray(each).resize((200, 150))) for name, each in found.items()}


@pytest.fixture(scope="module")
def mask() -> NDArray[np.bool_]:
    inside = np.zeros((150, 200), bool)
    inside[50:100, 70:130] = True
    return inside


def with_inside(photo: Pixels, mask: NDArray[np.bool_], inside: Pixels) -> Pixels:
    return np.where(mask[..., None], inside, photo)


@pytest.mark.parametrize("spoil", [blurred, grainy, blocky, plain])
@pytest.mark.parametrize("name", ["coffee", "cat", "astronaut"])
def test_an_untouched_photograph_scores_above_one_with_its_inside_spoilt(
    judge: NaturalStatistics,
    photos: dict[str, Pixels],
    mask: NDArray[np.bool_],
    name: str,
    spoil: Callable[[Pixels], Pixels],
) -> None:
    photo = photos[name]
    spoilt = with_inside(photo, mask, spoil(photo))
    untouched = judge.judge(photo, photo, mask)
    assert 0 <= judge.judge(photo, spoilt, mask) < untouched <= 100
    assert judge.distance(photo, spoilt, mask) > judge.distance(photo, photo, mask)


def test_what_is_far_from_the_mask_is_not_looked_at(
    judge: NaturalStatistics, photos: dict[str, Pixels], mask: NDArray[np.bool_]
) -> None:
    photo = photos["cat"]
    elsewhere = photo.copy()
    elsewhere[:8], elsewhere[:, 190:] = 0, 255
    assert judge.judge(elsewhere, elsewhere, mask) == judge.judge(photo, photo, mask)


def test_the_ring_is_the_sources_so_a_spoilt_outside_excuses_nothing(
    judge: NaturalStatistics, photos: dict[str, Pixels], mask: NDArray[np.bool_]
) -> None:
    photo = photos["cat"]
    inside_only = with_inside(photo, mask, blurred(photo))
    near = np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(21)))
    everywhere = with_inside(blurred(photo), near, inside_only)
    assert judge.judge(photo, everywhere, mask) == judge.judge(photo, inside_only, mask)


def test_the_same_edit_has_the_same_score(photos: dict[str, Pixels], mask: NDArray[np.bool_]) -> None:
    photo = photos["coffee"]
    edit = with_inside(photo, mask, grainy(photo))
    first, again = (NaturalStatistics().judge(photo, edit, kind) for kind in (mask, mask.astype(np.float32)))
    assert first == again


@pytest.mark.parametrize(
    ("rows", "columns", "says"),
    [
        (slice(50, 66), slice(70, 86), "inside of the mask: 64 pixels at half size"),
        (slice(0, 0), slice(0, 0), "inside of the mask: 0 pixels"),
        (slice(5, 145), slice(5, 195), "ring round the mask"),
    ],
)
def test_a_mask_that_leaves_too_little_to_see_is_refused(
    judge: NaturalStatistics, photos: dict[str, Pixels], rows: slice, columns: slice, says: str
) -> None:
    mask = np.zeros((150, 200), bool)
    mask[rows, columns] = True
    with pytest.raises(InvalidInput, match=says):
        judge.judge(photos["cat"], photos["cat"], mask)


def test_pictures_of_different_size_are_refused(judge: NaturalStatistics, photos: dict[str, Pixels]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        judge.judge(photos["cat"], photos["cat"][:-1], np.ones((150, 200), bool))


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_the_shape_of_a_generalised_gaussian_is_found_again(shape: float) -> None:
    values = np.asarray(gennorm.rvs(shape, size=100_000, random_state=1))
    log_shape, log_variance = symmetric_fit(values)
    assert np.exp(log_shape) == pytest.approx(shape, rel=0.05)
    assert np.exp(log_variance) == pytest.approx(values.var(), rel=0.05)


def test_the_two_sides_of_an_asymmetric_gaussian_are_told_apart() -> None:
    values = np.abs(np.random.default_rng(1).normal(size=100_000))
    # A split normal: its sides hold mass in proportion to their deviations.
    values[::4] *= -1.0
    values[values > 0] *= 3.0
    log_shape, mean, log_left, log_right = asymmetric_fit(values)
    assert np.exp(log_shape) == pytest.approx(2.0, rel=0.05)
    assert mean == pytest.approx(values.mean())
    assert np.exp([log_left, log_right]) == pytest.approx([1.0, 9.0], rel=0.05)


def test_what_is_learned_can_be_made_again(tmp_path: Path, photos: dict[str, Pixels]) -> None:
    for name, photo in photos.items():
        Image.fromarray(photo).save(tmp_path / f"{name}.png")
    few = ["--images", str(tmp_path), "--count", "12", "--seed", "3", "--workers", "1"]
    for out in ("first.npz", "again.npz"):
        fit_main([*few, "--out", str(tmp_path / out)])
    with np.load(tmp_path / "first.npz") as first, np.load(tmp_path / "again.npz") as again:
        assert set(first) == set(again)
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
    photo, mask = draw_untouched(Image.fromarray(photos["cat"]), np.random.default_rng(2))
    assert 0 <= NaturalStatistics(tmp_path / "first.npz").judge(photo, photo, mask) <= 100


def test_other_seeds_draw_other_regions(photos: dict[str, Pixels]) -> None:
    pictures = [Image.fromarray(each) for each in photos.values()]
    assert not np.array_equal(fit(pictures, 12, 3).mean, fit(pictures, 12, 4).mean)


def test_a_table_tells_how_often_an_order_is_right() -> None:
    found = [Order("blur", 60, 50, 40), Order("blur", 60, 70, 10), Order("noise", 1, 1, 1)]
    blur, noise = table(found).splitlines()[2:]
    assert blur.startswith("| `blur` | 2 | 50 %")
    assert "100 %" in blur
    assert noise.count("| 0 %") == 3, "a tie is no order"


@pytest.mark.parametrize("whole", [False, True])
def test_a_fault_is_measured_mildly_and_severely(
    tmp_path: Path, photos: dict[str, Pixels], whole: bool
) -> None:
    for name, photo in photos.items():
        Image.fromarray(photo).resize((300, 225)).save(tmp_path / f"{name}.png")
    (job,) = list_jobs(tmp_path, limit=1, seed=2)
    found = {each.fault: each for each in orders(job, whole)}
    assert found["blur"].perfect > found["blur"].severe
    assert found["flat"].perfect > found["flat"].severe
