"""Repairs without diffusion: each mends the fault that it is for, and touches nothing beyond the blend mask."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter
from skimage import data

from editcritic.refine.blending import gradient_blended, multiband_blended
from editcritic.refine.cleanup import debanded, deblocked, denoised
from editcritic.refine.defringe import defringed
from editcritic.refine.detail import matched_detail
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.masks import feathered
from editcritic.refine.repair import REPAIRS as CATALOGUE
from editcritic.refine.repair import Workpiece
from editcritic.refine.retouch import recomposited, unghosted
from editcritic.refine.tone import recoloured, relit
from editcritic.v1 import critic_pb2 as pb

Pixels = np.ndarray
Change = Callable[[Pixels, Pixels, np.ndarray], Pixels]

MASK = np.zeros((160, 200), np.float32)
MASK[50:110, 60:140] = 1
BLEND = feathered(MASK)
INSIDE, FAR = MASK > 0.5, BLEND == 0

SEEDED = {"match detail": partial(matched_detail, seed=1), "deband": partial(debanded, seed=1)}
REPAIRS: dict[str, Change] = SEEDED | {
    "recolour": recoloured,
    "relight": relit,
    "blend": multiband_blended,
    "blend gradients": gradient_blended,
    "defringe": defringed,
    "denoise": denoised,
    "deblock": deblocked,
    "unghost": unghosted,
    "recomposite": recomposited,
}
each_repair = pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)


@pytest.fixture(scope="module")
def photo() -> Pixels:
    """A cup on a table: smooth and textured, with edges across the mask's border."""
    return np.asarray(data.coffee()[20:180, 400:600], np.uint8)


@pytest.fixture(scope="module")
def texture() -> Pixels:
    """Gravel: texture everywhere, of one sharpness."""
    grey = data.gravel()[:160, :200]
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def spoiled(photo: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """The photograph with its inside changed: the perfect answer is the photograph."""
    changed = np.clip(change(photo.astype(np.float32)), 0, 255)
    return np.round(photo + BLEND[..., None] * (changed - photo)).astype(np.uint8)


def error(picture: Pixels, photo: Pixels) -> float:
    return float(np.abs(picture[INSIDE].astype(float) - photo[INSIDE]).mean())


def detail(picture: Pixels) -> float:
    fine = picture.astype(float) - gaussian_filter(picture.astype(float), (1.5, 1.5, 0))
    return float(np.median(np.abs(fine[INSIDE])))


def linear(picture: Pixels) -> Pixels:
    return (picture / 255) ** 2.2


def test_recomposite_takes_back_what_changed_outside(photo: Pixels) -> None:
    shifted = np.roll(photo, 2, axis=1)
    result = recomposited(photo, shifted, BLEND)
    np.testing.assert_array_equal(result[FAR], photo[FAR])
    np.testing.assert_array_equal(result[~FAR], shifted[~FAR])


@pytest.mark.parametrize("shift", [(22, 22, 22), (-18, -18, -18), (20, 0, -15)])
def test_recolour_undoes_a_shift_of_tone_or_colour(photo: Pixels, shift: tuple[int, int, int]) -> None:
    edit = spoiled(photo, lambda p: p + np.array(shift))
    assert error(recoloured(photo, edit, BLEND), photo) < 0.4 * error(edit, photo)


@pytest.mark.parametrize("stops", [-0.8, 0.6])
def test_relight_undoes_an_exposure(photo: Pixels, stops: float) -> None:
    edit = spoiled(photo, lambda p: 255 * np.clip(linear(p) * 2**stops, 0, 1) ** (1 / 2.2))
    assert error(relit(photo, edit, BLEND), photo) < 0.4 * error(edit, photo)


def test_relight_undoes_light_that_falls_from_one_side(texture: Pixels) -> None:
    slope = np.linspace(-0.5, 0.5, 80)[None, :, None]

    def lit(picture: Pixels) -> Pixels:
        ratio = np.ones((160, 200, 1))
        ratio[:, 60:140] = np.exp(slope)
        return 255 * np.clip(linear(picture) * ratio, 0, 1) ** (1 / 2.2)

    edit = spoiled(texture, lit)
    assert error(relit(texture, edit, BLEND), texture) < 0.5 * error(edit, texture)


@pytest.mark.parametrize("repair", [recoloured, relit])
def test_a_border_that_says_nothing_changes_little(photo: Pixels, repair: Change) -> None:
    assert error(repair(photo, photo, BLEND), photo) < 5


@pytest.mark.parametrize("repair", [multiband_blended, gradient_blended])
def test_blending_lowers_the_step_at_the_border(photo: Pixels, repair: Change) -> None:
    edit = spoiled(photo, lambda p: p + 25)
    result = repair(photo, edit, BLEND)
    rim = (slice(52, 56), slice(70, 130))
    before, after = (abs(float((p[rim].astype(float) - photo[rim]).mean())) for p in (edit, result))
    assert after < 0.5 * before


def test_multiband_blending_keeps_the_middle_and_a_membrane_moves_it(photo: Pixels) -> None:
    mask = np.zeros((160, 200), np.float32)
    mask[10:150, 20:180] = 1
    edit = np.where(mask[..., None] > 0, np.clip(photo.astype(int) + 25, 0, 255), photo).astype(np.uint8)
    middle = (slice(76, 84), slice(96, 104))
    banded, moved = (
        float(np.abs(repair(photo, edit, mask)[middle].astype(float) - edit[middle]).mean())
        for repair in (multiband_blended, gradient_blended)
    )
    assert banded < 1.5
    assert moved > 8


def test_a_membrane_is_not_held_by_a_border_whose_sides_disagree(photo: Pixels) -> None:
    # A chequered floor that ends at the border: copying its steps inwards would bleed colour.
    rows, columns = np.indices((160, 200))
    tiles = np.where((rows // 20 + columns // 20) % 2, 200, 128)
    floor = np.repeat(tiles[..., None], 3, axis=2).astype(np.uint8)
    edit = np.where(INSIDE[..., None], 164, floor).astype(np.uint8)
    near = INSIDE & (distance_transform_edt(INSIDE) < 4)
    moved = np.abs(gradient_blended(floor, edit, MASK)[near].astype(float) - 164).mean()
    assert moved < 0.4 * 36  # the floor's tiles differ by 36 from the edit


@pytest.mark.parametrize("fringe", ["line", "fading step"])
def test_a_fringe_along_the_border_is_taken_away_and_the_rest_is_left(texture: Pixels, fringe: str) -> None:
    depth = distance_transform_edt(INSIDE) - 0.5
    shape = np.exp(-0.5 * (depth / 0.9) ** 2) if fringe == "line" else np.exp(-depth / 7)
    calm = (texture // 5 + 90).astype(np.uint8)
    edit = np.clip(calm + (INSIDE * 30 * shape)[..., None], 0, 255).astype(np.uint8)
    result = defringed(calm, edit, MASK)
    rim = INSIDE & (depth < 2)
    deep = INSIDE & (depth > 16)
    before, after = (float((p[rim].astype(float) - calm[rim]).mean()) for p in (edit, result))
    assert abs(after) < 0.5 * before
    np.testing.assert_array_equal(result[deep], edit[deep])


def test_a_line_in_a_soft_rim_is_taken_away_where_the_blend_mask_is_weak_too(texture: Pixels) -> None:
    depth = distance_transform_edt(INSIDE) - distance_transform_edt(~INSIDE)
    weak = (BLEND > 0) & (BLEND < 0.5)
    calm = (texture // 5 + 90).astype(np.uint8)
    line = 30 * np.exp(-0.5 * (depth / 1.5) ** 2) * (BLEND > 0)
    edit = np.clip(calm + line[..., None], 0, 255).astype(np.uint8)
    result = defringed(calm, edit, BLEND)
    before, after = (float((p[weak].astype(float) - calm[weak]).mean()) for p in (edit, result))
    assert abs(after) < 0.5 * before
    np.testing.assert_array_equal(result[FAR], calm[FAR])


def test_a_passage_from_one_colour_to_another_is_no_fringe() -> None:
    source = np.full((160, 200, 3), 90, np.uint8)
    edit = np.where(INSIDE[..., None], 150, source).astype(np.uint8)
    np.testing.assert_array_equal(defringed(source, edit, MASK), edit)


@pytest.mark.parametrize(("sigma", "left"), [(1.0, 0.3), (2.0, 0.7)])
def test_blur_is_brought_to_the_detail_of_the_surroundings(
    texture: Pixels, sigma: float, left: float
) -> None:
    edit = spoiled(texture, lambda p: gaussian_filter(p, (sigma, sigma, 0)))
    result = matched_detail(texture, edit, BLEND, seed=1)
    assert abs(detail(result) - detail(texture)) < left * abs(detail(edit) - detail(texture))


def test_oversharpening_is_toned_down_to_the_original(texture: Pixels) -> None:
    edit = spoiled(texture, lambda p: p + 1.5 * (p - gaussian_filter(p, (1.5, 1.5, 0))))
    assert error(matched_detail(texture, edit, BLEND, seed=1), texture) < 0.6 * error(edit, texture)


def test_an_outline_gets_sharper_without_a_line_along_it() -> None:
    rows, columns = np.mgrid[:160, :200]
    apart = np.hypot(rows - 80, columns - 100)
    grain = gaussian_filter(np.random.default_rng(0).normal(0, 1, (160, 200)), 0.7)
    ground = 110 + 8 * grain / grain.std()
    perfect = np.where(apart < 14, 235, ground)[..., None].repeat(3, axis=2).astype(np.uint8)
    edit = spoiled(perfect, lambda p: gaussian_filter(p, (1.5, 1.5, 0)))
    result = matched_detail(perfect, edit, BLEND, seed=1)
    assert error(result, perfect) < error(edit, perfect)
    along = (apart > 15) & (apart < 20)
    darkest = [float(np.quantile(each[along], 0.01)) for each in (perfect, result)]
    assert darkest[1] > darkest[0] - 6, "a dark line along the bright disc"


def test_a_smooth_place_is_not_taken_for_a_blurred_one(texture: Pixels) -> None:
    source = texture.copy()
    source[30:130, 40:160] = 120  # a plain sign on gravel, inside which the edit lies
    result = matched_detail(source, source, BLEND, seed=1)
    assert error(result, source) < 1.5


def test_grain_is_taken_out(photo: Pixels) -> None:
    grain = np.random.default_rng(0).normal(0, 10, photo.shape)
    edit = spoiled(photo, lambda p: p + grain)
    assert error(denoised(photo, edit, BLEND), photo) < 0.65 * error(edit, photo)


def test_grain_that_the_photograph_has_too_stays(photo: Pixels) -> None:
    grainy = np.clip(photo + np.random.default_rng(0).normal(0, 10, photo.shape), 0, 255).astype(np.uint8)
    assert error(denoised(grainy, grainy, BLEND), grainy) < 2


def blockiness(picture: Pixels, start: tuple[int, int]) -> float:
    """Steps between columns and rows on the grid that starts there, less those beside it."""
    grey = picture[50:110, 60:140].astype(float).mean(axis=-1)
    across, down = np.abs(np.diff(grey, axis=1)).mean(axis=0), np.abs(np.diff(grey, axis=0)).mean(axis=1)
    on = [
        np.arange(len(steps)) % 8 == (first - 1) % 8
        for steps, first in ((across, start[1]), (down, start[0]))
    ]
    return float(across[on[0]].mean() - across[~on[0]].mean() + down[on[1]].mean() - down[~on[1]].mean())


def test_compression_blocks_dissolve(photo: Pixels) -> None:
    file = io.BytesIO()
    Image.fromarray(photo[3:, 5:]).save(file, "JPEG", quality=12)
    coarse = photo.copy()
    coarse[3:, 5:] = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    edit = spoiled(photo, lambda _p: coarse.astype(np.float32))
    start = ((3 - 50) % 8, (5 - 60) % 8)
    result = deblocked(photo, edit, BLEND)
    assert blockiness(edit, start) > 3
    assert blockiness(result, start) < 0.4 * blockiness(edit, start)
    assert error(result, photo) < error(edit, photo)


def test_bands_are_smoothed_within_their_own_width() -> None:
    ramp = np.repeat(np.linspace(60, 140, 200)[None, :, None], 160, axis=0).repeat(3, axis=2)
    source = ramp.astype(np.uint8)
    edit = spoiled(source, lambda p: np.round(p / 12) * 12)
    result = debanded(source, edit, BLEND, seed=1)
    assert error(result, source) < 0.6 * error(edit, source)
    assert np.abs(result[INSIDE].astype(int) - edit[INSIDE]).max() <= 6 + 4  # half a step, and the dither


@pytest.mark.parametrize(
    ("kind", "smooths"),
    [
        (pb.ACTION_KIND_DEBLOCK, lambda *pictures: deblocked(*pictures)),
        (pb.ACTION_KIND_DEBAND, lambda *pictures: debanded(*pictures, seed=3)),
    ],
)
def test_detail_that_goes_with_blocks_or_bands_is_made_up_for(
    texture: Pixels, kind: pb.ActionKind.ValueType, smooths: Change
) -> None:
    edit = spoiled(texture, lambda p: np.round(gaussian_filter(p, (1.5, 1.5, 0)) / 10) * 10)
    work = Workpiece(DummyEngine(), texture, edit, MASK, BLEND, "", seed=3, attempt=0)
    mended = CATALOGUE[kind](work, pb.SuggestedAction(kind=kind))
    assert mended is not None
    assert mended.picture is not None
    assert detail(smooths(texture, edit, BLEND)) < 0.5 * detail(texture)
    assert detail(mended.picture) > 0.6 * detail(texture)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_ghost_of_the_source_is_subtracted(photo: Pixels, texture: Pixels, share: float) -> None:
    edit = spoiled(photo, lambda p: (1 - share) * p + share * texture)
    source = np.where(BLEND[..., None] > 0, texture, photo)
    assert error(unghosted(source, edit, BLEND), photo) < 0.3 * error(edit, photo)


def test_without_a_ghost_nothing_is_subtracted(photo: Pixels, texture: Pixels) -> None:
    source = np.where(INSIDE[..., None], texture, photo)
    np.testing.assert_array_equal(unghosted(source, photo, MASK), photo)


@each_repair
@pytest.mark.parametrize("blend", [MASK, BLEND], ids=["hard", "soft"])
def test_beyond_the_blend_mask_the_source_stands_bit_for_bit(
    photo: Pixels, repair: Change, blend: np.ndarray
) -> None:
    leaking = np.random.default_rng(2).integers(0, 255, photo.shape, dtype=np.uint8)
    result = repair(photo, leaking, blend)
    np.testing.assert_array_equal(result[blend == 0], photo[blend == 0])
    assert result.dtype == np.uint8


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((160, 200), np.float32)
    mask[rows, columns] = 1
    return mask


@each_repair
@pytest.mark.parametrize(
    "blend",
    [
        box(slice(0, 40), slice(0, 50)),
        box(slice(80, 160), slice(0, 200)),
        box(slice(70, 71), slice(90, 91)),
        box(slice(0, 1), slice(0, 1)),
        box(slice(2, 158), slice(2, 198)),
        box(slice(0, 160), slice(0, 200)),
        np.maximum(box(slice(10, 30), slice(10, 30)), box(slice(90, 150), slice(120, 180))),
        np.full((160, 200), 0.5, np.float32),
    ],
    ids=["corner", "lower half", "one pixel", "one corner pixel", "nearly all", "all", "two parts", "half"],
)
def test_any_mask_is_worked_on_or_left_alone(photo: Pixels, repair: Change, blend: np.ndarray) -> None:
    edit = np.where(blend[..., None] > 0, np.clip(photo.astype(int) + 20, 0, 255), photo).astype(np.uint8)
    result = repair(photo, edit, blend)
    assert result.shape == photo.shape
    np.testing.assert_array_equal(result[blend == 0], photo[blend == 0])
    np.testing.assert_array_equal(result, repair(photo, edit, blend))


@pytest.mark.parametrize(
    "repair", [recoloured, relit, multiband_blended, gradient_blended, defringed, denoised]
)
def test_with_no_surroundings_nothing_can_be_matched(photo: Pixels, repair: Change) -> None:
    np.testing.assert_array_equal(repair(photo, photo, np.ones((160, 200), np.float32)), photo)


@pytest.mark.parametrize("width", [0, 3, 9, 14])
def test_the_two_sides_of_a_soft_border_are_found_however_wide_it_is(photo: Pixels, width: int) -> None:
    blend = np.clip(gaussian_filter(MASK, width / 3), 0, 1) if width else MASK
    blend = np.where(blend < 0.02, 0, blend).astype(np.float32)
    edit = np.round(photo + blend[..., None] * np.minimum(20.0, 255.0 - photo)).astype(np.uint8)
    deep = blend > 0.99
    for repair in (recoloured, relit):
        after = np.abs(repair(photo, edit, blend)[deep].astype(float) - photo[deep]).mean()
        assert after < 0.6 * np.abs(edit[deep].astype(float) - photo[deep]).mean()
