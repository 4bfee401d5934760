"""Regions and pixels: against NumPy and Pillow, which the docker itself must do without."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.krita.rasters import (
    base64_parts,
    change_mask,
    encode_grey,
    encode_picture,
    heat_layer,
    limited,
    widened,
    with_alpha,
)
from editcritic.plugin.krita.regions import MAX_SIDE, Region, bands, context_region, fitted

CANVAS = Region(0, 0, 4000, 3000)


def noise(height: int, width: int, channels: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


def sliced(pixels: NDArray[np.uint8]) -> list[bytes]:
    """Slices of seven rows, the last one shorter."""
    return [pixels[at : at + 7].tobytes() for at in range(0, len(pixels), 7)]


def read(png: bytes) -> tuple[str, NDArray[np.uint8]]:
    image = Image.open(io.BytesIO(png))
    return image.mode, np.asarray(image)


def test_a_picture_is_encoded_without_loss_from_krita_s_channel_order() -> None:
    bgra = noise(37, 53)
    bgra[..., 3] = 255
    mode, pixels = read(encode_picture(sliced(bgra), 53, 37))
    assert mode == "RGB"
    assert np.array_equal(pixels, bgra[..., 2::-1])


def test_transparency_travels_when_there_is_any() -> None:
    bgra = noise(20, 30)
    mode, pixels = read(encode_picture(sliced(bgra), 30, 20))
    assert mode == "RGBA"
    assert np.array_equal(pixels, bgra[..., [2, 1, 0, 3]])


def test_a_mask_is_encoded_without_loss() -> None:
    levels = noise(20, 30, 1)[..., 0]
    mode, pixels = read(encode_grey(sliced(levels), 30, 20))
    assert mode == "L"
    assert np.array_equal(pixels, levels)


def test_base64_in_parts_is_base64() -> None:
    data = noise(300, 400).tobytes()
    assert b"".join(base64_parts(data)) == base64.b64encode(data)


def test_the_layer_shows_what_changed_and_what_was_selected_and_nothing_else() -> None:
    before = noise(40, 50)
    after, selection = before.copy(), np.zeros((40, 50), np.uint8)
    after[5, 7, 1] ^= 1  # a single level of a single channel
    after[9, 9, 3] ^= 255  # alpha alone is no change: results have none
    selection[20:30, 20:30] = 3
    mask = np.frombuffer(change_mask(before.tobytes(), after.tobytes(), selection.tobytes(), 50), np.uint8)
    expected = np.zeros((40, 50), np.uint8)
    expected[5, 7] = expected[20:30, 20:30] = 255
    assert np.array_equal(mask.reshape(40, 50), expected)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 7, 16, 60])
def test_a_mask_is_widened_like_a_maximum_filter(radius: int) -> None:
    from scipy.ndimage import maximum_filter

    mask = np.zeros((40, 50), np.uint8)
    mask[3, 4], mask[20:22, 30], mask[39, 49] = 7, 255, 1
    parts = widened(sliced(mask), 50, radius)
    assert [len(each) for each in parts] == [len(each) for each in sliced(mask)]
    grown = np.frombuffer(b"".join(parts), np.uint8).reshape(40, 50)
    expected = maximum_filter(mask > 0, size=2 * radius + 1, mode="constant")
    assert np.array_equal(grown, np.where(expected, 255, 0))


def test_a_mask_is_limited_by_another() -> None:
    assert limited(bytes([0, 255, 0, 255]), bytes([0, 0, 255, 255])) == bytes([0, 0, 0, 255])


def test_alpha_is_replaced_and_colours_stay() -> None:
    bgra, alpha = noise(10, 12), noise(10, 12, 1)[..., 0]
    pixels = np.frombuffer(with_alpha(bgra.tobytes(), alpha.tobytes(), 12), np.uint8).reshape(10, 12, 4)
    assert np.array_equal(pixels[..., :3], bgra[..., :3])
    assert np.array_equal(pixels[..., 3], alpha)


def test_heat_is_clear_without_a_fault_and_reddens_with_its_gravity() -> None:
    levels = np.array([[0, 60, 160, 255]], np.uint8)
    ((none, faint, grave, worst),) = np.frombuffer(heat_layer(levels.tobytes(), 4), np.uint8).reshape(1, 4, 4)
    assert none[3] == 0
    assert 0 < faint[3] < worst[3] == 255
    assert faint[1] > grave[1] > worst[1], "less green: from yellow to red"
    assert faint[2] == worst[2] == 255


def test_the_crop_shows_the_selection_with_surroundings() -> None:
    region = context_region(Region(1000, 1000, 400, 300), CANVAS)
    assert region == Region(800, 750, 800, 800)


def test_a_small_selection_still_gets_a_picture_round_it() -> None:
    region = context_region(Region(2000, 1500, 10, 10), CANVAS)
    assert (region.width, region.height) == (512, 512)


@pytest.mark.parametrize(
    "selection",
    [
        Region(-50, -50, 200, 200),
        Region(3900, 2900, 500, 500),
        Region(0, 2990, 4000, 10),
        Region(-9, -9, 9000, 9000),
    ],
)
def test_the_crop_stays_on_the_canvas_and_holds_what_is_selected_of_it(selection: Region) -> None:
    region, seen = context_region(selection, CANVAS), selection.within(CANVAS)
    assert region.within(CANVAS) == region
    assert seen.within(region) == seen


def test_a_selection_beyond_the_canvas_is_empty() -> None:
    assert context_region(Region(5000, 0, 10, 10), CANVAS).is_empty
    assert context_region(Region(-10, -10, 10, 10), CANVAS).is_empty


@pytest.mark.parametrize("region", [Region(3, 5, 4000, 3000), Region(0, 0, 1, 1), Region(7, 7, 333, 777)])
def test_slices_cover_the_region_in_order_and_none_is_large(region: Region) -> None:
    slices = list(bands(region))
    assert sum(each.height for each in slices) == region.height
    assert [each.y for each in slices] == sorted({each.y for each in slices})
    assert all((each.x, each.width) == (region.x, region.width) for each in slices)
    assert max(each.width * each.height for each in slices) <= 1 << 17


def test_what_is_sent_is_at_most_so_large_and_keeps_its_shape() -> None:
    assert fitted(800, 600) == (800, 600)
    assert fitted(4000, 3000) == (1334, 1000), "a third, rounded up"
    assert max(fitted(100_000, 10)) <= MAX_SIDE
    assert min(fitted(100_000, 10)) == 1
