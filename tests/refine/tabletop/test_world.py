"""The rendered world: seeds name scenes, things stay inside masks, and each shape looks like itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.refine.tabletop.shapes import SHAPES, sculpt
from editcritic.refine.tabletop.words import COLOURS, THINGS, read_prompt
from editcritic.refine.tabletop.world import SIDE, Thing, cells, draw_scene, render


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(data.coffee())


def thing(shape: str = "ball", colour: str = "red", finish: str = "matte", size: str = "large") -> Thing:
    return Thing(shape, colour, finish, size, 2, 0, (-0.3, 0.5, 0.81))


def test_a_seed_names_a_scene(photo: Image.Image) -> None:
    first, again, other = (draw_scene(photo, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.target, again.target)
    assert (first.caption, first.thing) == (again.caption, again.thing)
    assert not np.array_equal(first.target, other.target)


def test_nothing_changes_outside_the_mask_and_captions_tell_what_was_placed(photo: Image.Image) -> None:
    removals = 0
    for seed in range(60):
        scene = draw_scene(photo, np.random.default_rng(seed))
        np.testing.assert_array_equal(scene.target[~scene.mask], scene.source[~scene.mask])
        wish = read_prompt(scene.caption)
        assert wish.unknown == ()
        if scene.thing is None:
            removals += 1
            assert wish.removal
            np.testing.assert_array_equal(scene.target, scene.source)
        else:
            assert wish.shape in (None, scene.thing.shape)
            assert wish.colour in (None, scene.thing.colour)
            assert not np.array_equal(scene.target, scene.source)
    assert 5 < removals < 30


@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_has_its_colour(colour: str) -> None:
    grey = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    mask = np.ones((SIDE, SIDE), bool)
    picture = render(grey, mask, thing(colour=colour), (64.0, 64.0, 40.0))
    seen = np.median(picture[54:74, 54:74].reshape(-1, 3), axis=0)
    # Lit surfaces change in brightness, much less in hue: the nearest direction from grey is the right one.
    distance = {name: np.linalg.norm(seen - np.array(rgb)) for name, rgb in COLOURS.items()}
    assert min(distance, key=distance.__getitem__) == colour


def test_shiny_things_have_a_highlight_and_matte_ones_have_none() -> None:
    grey, mask = np.full((SIDE, SIDE, 3), 0.5, np.float32), np.ones((SIDE, SIDE), bool)
    brightest = {
        finish: render(grey, mask, thing(finish=finish), (64.0, 64.0, 40.0)).min(axis=-1).max()
        for finish in ("shiny", "matte")
    }
    assert brightest["shiny"] > brightest["matte"] + 0.2


def test_small_things_are_smaller() -> None:
    black, mask = np.zeros((SIDE, SIDE, 3), np.float32), np.ones((SIDE, SIDE), bool)
    area = {
        size: (render(black, mask, thing(size=size), (64.0, 64.0, 40.0)).max(axis=-1) > 0.1).sum()
        for size in ("small", "large")
    }
    assert area["small"] < 0.6 * area["large"]


def test_a_thing_throws_a_shadow_below_itself() -> None:
    bright, mask = np.full((SIDE, SIDE, 3), 0.9, np.float32), np.ones((SIDE, SIDE), bool)
    picture = render(bright, mask, thing(colour="white"), (64.0, 50.0, 30.0))
    assert picture[82, 64].max() < 0.8
    assert picture[10, 64].min() == pytest.approx(0.9)


def test_silhouettes_differ_from_shape_to_shape() -> None:
    covers = {shape: sculpt(shape, 2, 0)[..., 3] > 0.5 for shape in THINGS}
    assert set(SHAPES) == set(THINGS)
    for one, other in itertools.combinations(THINGS, 2):
        overlap = (covers[one] & covers[other]).sum() / (covers[one] | covers[other]).sum()
        assert overlap < 0.95, (one, other)


def test_normals_are_unit_vectors_towards_the_eye() -> None:
    layers = sculpt("ball", 0, 0)
    inside = layers[..., 3] == 1
    normals = layers[inside][:, :3]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=0.02)
    assert np.all(normals[:, 2] > -0.05)


def test_cells_hold_every_masked_pixel() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[7, 8] = mask[127, 127] = True
    expected = np.zeros((16, 16), bool)
    expected[0, 1] = expected[15, 15] = True
    np.testing.assert_array_equal(cells(mask), expected)
