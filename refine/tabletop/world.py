"""The tabletop world: a photograph, a mask, and one lit solid standing in it (or nothing, for removals).

Everything is drawn from a `numpy.random.Generator`, so a seed names a scene. Sizes are in pixels of a
`SIDE` x `SIDE` crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from editcritic.refine.tabletop.seat import find_seat
from editcritic.refine.tabletop.shapes import PITCHES, YAWS, sculpt
from editcritic.refine.tabletop.words import COLOURS, FINISHES, REMOVAL, THINGS

__all__ = [
    "CELL",
    "SIDE",
    "Scene",
    "Thing",
    "caption",
    "cells",
    "crop_photo",
    "draw_mask",
    "draw_scene",
    "render",
]

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator

SIDE = 128
CELL = 8  # pixels of one latent cell: masks are widened to whole cells before denoising
_HALF = np.array([-0.3, 0.55, 0.78], np.float32)  # mean direction towards the light
_REMOVALS = 0.28  # share of scenes in which nothing is placed
_GAP = 3.0  # pixels between a large thing and the walls of its hole: users' masks end inside their last cells
_CENTRED = 0.92  # share of masks that lie as the engine's context crop puts them


@dataclass(frozen=True)
class Thing:
    """One solid: words of the vocabulary, pose indices, and a unit light direction (x right, y up, z to the eye)."""

    shape: str
    colour: str
    finish: str
    size: str
    yaw: int
    pitch: int
    light: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """A training example.

    source, target: (SIDE, SIDE, 3) float32 in [0, 1], sRGB; they are equal outside the mask.
    mask: (SIDE, SIDE) bool, whole cells, True where the edit may paint. thing: None for a removal.
    caption: the prompt that asks for it; it may leave attributes open.
    """

    source: Array
    mask: NDArray[np.bool_]
    target: Array
    thing: Thing | None
    caption: str


def crop_photo(photo: Image.Image, rng: Rng) -> Array:
    """A random square of an RGB photograph, flipped half of the time: (SIDE, SIDE, 3) float32 in [0, 1]."""
    short = min(photo.size)
    side = int(min(short, max(90, short * rng.uniform(0.35, 1.0))))
    left, top = (int(rng.integers(0, extent - side + 1)) for extent in photo.size)
    square = photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side), 2.0)
    array = np.asarray(square, np.float32) / 255
    return array[:, ::-1].copy() if rng.random() < 0.5 else array


def _outline(rng: Rng, reach: float, centre: tuple[float, float]) -> list[tuple[float, float]]:
    """A closed curve between ellipse and rectangle, dented at random; `reach` is half of its longer side."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    power = rng.choice([2.0, 2.6, 5.0, 9.0], p=[0.3, 0.2, 0.2, 0.3])
    rim = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
    dents = rng.choice([0.0, 0.03, 0.09])
    for k in (2, 3, 5):
        rim *= 1 + dents * rng.normal() * np.cos(k * angle + rng.uniform(0, 6.28))
    turn, aspect = rng.normal(0, 0.12), np.exp(rng.normal(0, 0.19))
    x, y = aspect * rim * np.cos(angle), rim * np.sin(angle) / aspect
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    scale = 2 * reach / max(np.ptp(x), np.ptp(y))
    return [(centre[0] + scale * a, centre[1] + scale * b) for a, b in zip(x, y, strict=True)]


def draw_mask(rng: Rng) -> NDArray[np.bool_]:
    """A hand-drawn looking mask, (SIDE, SIDE) bool.

    Most are one blob in the middle, as wide as a context crop leaves it; a few lie anywhere, in any size,
    or are brush strokes.
    """
    canvas = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(canvas)
    kind = rng.random()
    if kind < _CENTRED:
        centre = SIDE / 2 + rng.normal(0, 2, 2)
        draw.polygon(_outline(rng, rng.uniform(28, 41), (centre[0], centre[1])), fill=255)
    elif kind < 0.96:
        reach = rng.uniform(18, 60)
        centre = rng.uniform(reach * 0.6, SIDE - reach * 0.6, 2)
        draw.polygon(_outline(rng, reach, (centre[0], centre[1])), fill=255)
    else:
        points = [tuple(rng.uniform(12, SIDE - 12, 2)) for _ in range(rng.integers(2, 4))]
        draw.line(points, fill=255, width=int(rng.integers(14, 34)), joint="curve")
    return np.greater(np.asarray(canvas), 127)


def cells(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`mask` (H, W) widened to whole latent cells: (H / CELL, W / CELL) bool, True where any pixel of a
    cell is masked."""
    height, width = mask.shape
    blocks = mask.reshape(height // CELL, CELL, width // CELL, CELL)
    return np.asarray(blocks.any(axis=(1, 3)), np.bool_)


def _seat(hole: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Centre x, y and radius in pixels of where to stand in a hole of cells, a little off its walls."""
    x, y, room = find_seat(hole)
    return CELL * x, CELL * y, CELL * room - _GAP


def _draw_thing(rng: Rng) -> Thing:
    light = _HALF + rng.normal(0, [0.3, 0.08, 0.08])
    light /= np.linalg.norm(light)
    return Thing(
        str(rng.choice(THINGS)),
        str(rng.choice(list(COLOURS))),
        str(rng.choice(FINISHES)),
        "small" if rng.random() < 0.2 else "large",
        int(rng.integers(YAWS)),
        int(rng.integers(PITCHES)),
        (float(light[0]), float(light[1]), float(light[2])),
    )


def _light(thing: Thing, normal: Array, exposure: float) -> Array:
    """Colour (h, w, 3) in [0, 1] of every surface point: diffuse, plus highlight and sky on shiny things
    (Blinn 1977)."""
    light = np.array(thing.light, np.float32)
    albedo = np.array(COLOURS[thing.colour], np.float32)
    lambert = np.clip(normal @ light, 0, 1)[..., None]
    if thing.finish == "matte":
        return np.clip(exposure * albedo * (0.46 + 0.58 * lambert), 0, 1)
    half = light + np.array([0, 0, 1], np.float32)
    gloss = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[..., None] ** 36
    sky = np.clip(normal[..., 1:2], 0, 1) ** 3 * 0.10
    return np.clip(exposure * albedo * (0.38 + 0.60 * lambert) + sky + 0.85 * gloss, 0, 1)


def _shadow(x: float, y: float, radius: float, light: tuple[float, float, float]) -> Array:
    """Darkening (SIDE, SIDE) in [0, 1] on the ground where the thing stands, drawn out away from the light."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    dx = (columns - x + 0.35 * light[0] * radius) / radius
    dy = (rows - y - 0.80 * radius) / (0.34 * radius)
    return (0.62 * np.exp(-1.3 * (dx * dx + dy * dy))).astype(np.float32)


def _resized(layers: Array, side: int) -> Array:
    bands = [
        Image.fromarray(band).resize(
            (side, side), Image.Resampling.BOX if side < 96 else Image.Resampling.BILINEAR
        )
        for band in np.moveaxis(layers, -1, 0)
    ]
    return np.stack([np.asarray(band) for band in bands], axis=-1)


def _soft(mask: NDArray[np.bool_]) -> Array:
    """The mask with a rim of some 4 px that falls to 0 inside it: shadows end there, not at a hard edge."""
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(4))
    return np.clip(np.asarray(blurred, np.float32) / 127.5 - 1, 0, 1)


def render(photo: Array, mask: NDArray[np.bool_], thing: Thing, seat: tuple[float, float, float]) -> Array:
    """Place a thing on a photograph: (SIDE, SIDE, 3) float32 in [0, 1]; unchanged outside the mask.

    photo: (SIDE, SIDE, 3) float32 in [0, 1]. seat: centre x, y and radius of the disc to stand in, in pixels.
    """
    x, y, room = seat
    radius = room * (0.62 if thing.size == "small" else 0.94)
    side = max(8, round(2 * radius))
    layers = _resized(sculpt(thing.shape, thing.yaw, thing.pitch), side)
    cover = layers[..., 3:]
    normal = layers[..., :3] / np.maximum(cover, 1e-3)
    exposure = 0.82 + 0.30 * float(photo.mean())
    left, top = round(x - side / 2), round(y - side / 2)
    shade = _shadow(x, y, radius, thing.light) * _soft(mask)
    picture = photo * (1 - shade[..., None])
    rows = slice(max(top, 0), min(top + side, SIDE))
    columns = slice(max(left, 0), min(left + side, SIDE))
    inner = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    lit = _light(thing, normal[inner], exposure)
    picture[rows, columns] += cover[inner] * (lit - picture[rows, columns])
    return np.where(mask[..., None], picture, photo)


def caption(thing: Thing | None, rng: Rng) -> str:
    """A prompt for the thing in random word order; now and then it leaves an attribute open."""
    if thing is None:
        return REMOVAL if rng.random() < 0.4 else ""
    # A thing is large unless the prompt says otherwise, so "small" is never left out.
    words = [
        (thing.shape, 0.98),
        (thing.colour, 0.97),
        (thing.finish, 0.6),
        (thing.size, 1.0 if thing.size == "small" else 0.3),
    ]
    kept = [word for word, chance in words if rng.random() < chance]
    order = rng.permutation(len(kept)) if rng.random() < 0.5 else np.arange(len(kept))[::-1]
    return " ".join(kept[i] for i in order) or thing.shape


def draw_scene(photo: Image.Image, rng: Rng) -> Scene:
    """One example from an RGB photograph whose short side is at least 90 px."""
    source, hole = crop_photo(photo, rng), cells(draw_mask(rng))
    mask = np.kron(hole, np.ones((CELL, CELL), bool))
    thing = None if rng.random() < _REMOVALS else _draw_thing(rng)
    target = source if thing is None else render(source, mask, thing, _seat(hole))
    return Scene(source, mask, target, thing, caption(thing, rng))
