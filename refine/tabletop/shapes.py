"""The solids of the tabletop world, as normal maps that can be lit later.

Each solid is a signed distance function; `sculpt` sphere-traces it once per pose with an orthographic camera and keeps
the coverage and the surface normals. Lighting, colour and size come later (`world.py`), so one tracing serves thousands
of pictures.

Source: sphere tracing, J. C. Hart 1996; distance functions after I. Quilez, "3D signed distance functions".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PITCHES", "SHAPES", "YAWS", "sculpt"]

Array = NDArray[np.floating[Any]]
Solid = Callable[[Array], Array]

GRID = 192  # pixels traced per side, halved afterwards so that edges are smooth
YAWS = 6
PITCHES = 2
_STEPS = 40
_REACH = 1.9


def _ball(p: Array) -> Array:
    return np.linalg.norm(p, axis=-1) - 0.95


def _cube(p: Array) -> Array:
    q = np.abs(p) - 0.56
    outside = np.linalg.norm(np.maximum(q, 0), axis=-1)
    return outside + np.minimum(q.max(axis=-1), 0) - 0.05


def _cone(p: Array) -> Array:
    radius = np.hypot(p[..., 0], p[..., 2])
    side = (radius * 1.75 - (0.98 - p[..., 1]) * 0.85) / np.hypot(1.75, 0.85)
    return np.maximum(side, -p[..., 1] - 0.77)


def _cylinder(p: Array) -> Array:
    radius = np.hypot(p[..., 0], p[..., 2])
    return np.maximum(radius - 0.58, np.abs(p[..., 1]) - 0.74)


def _ring(p: Array) -> Array:
    radius = np.hypot(p[..., 0], p[..., 1])
    return np.hypot(radius - 0.68, p[..., 2]) - 0.25


def _star(p: Array) -> Array:
    angle = np.arctan2(p[..., 0], p[..., 1])
    sector = 2 * np.pi / 5
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    radius = np.hypot(p[..., 0], p[..., 1])
    x, y = radius * np.cos(folded), radius * np.sin(folded)
    # One edge of the star runs from its tip (0.98, 0) to the notch between two tips.
    notch = 0.45 * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    edge = notch - np.array([0.98, 0.0])
    flat = ((x - 0.98) * edge[1] - y * edge[0]) / np.hypot(*edge)
    # The arms thin out towards the rim: a pillow, so that light shows the relief.
    thick = 0.16 + 0.22 * np.clip(-flat, 0, 0.4)
    return 0.75 * np.maximum(flat, np.abs(p[..., 2]) - thick)


SHAPES: dict[str, Solid] = {
    "ball": _ball,
    "cube": _cube,
    "cone": _cone,
    "cylinder": _cylinder,
    "ring": _ring,
    "star": _star,
}
# Flat solids are turned only so far that they stay recognisable; the others may show any side.
_TURN = {"ring": 0.7, "star": 0.7, "cube": 0.8}


def _camera(shape: str, yaw: int, pitch: int) -> Array:
    """Rotation (3, 3) that takes camera axes (x right, y up, z towards the eye) to the solid's own."""
    turn = _TURN.get(shape, np.pi)
    a = turn * ((yaw + 0.5) / YAWS - 0.5) + (np.pi / 4 if shape == "cube" else 0)
    b = (0.10 if shape in ("ring", "star") else 0.36) + 0.14 * pitch
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return (about_y @ about_x).astype(np.float32)


def _trace(solid: Solid, rotation: Array) -> tuple[Array, Array]:
    """Points (G, G, 3) where rays end, in the solid's frame, and whether each one hit (G, G) in {0, 1}."""
    axis = ((np.arange(GRID) + 0.5) / GRID * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(axis, -axis)
    start = np.stack([x, y, np.full_like(x, _REACH)], axis=-1) @ rotation.T
    ray = rotation @ np.array([0, 0, -1], np.float32)
    depth = np.zeros_like(x)
    for _ in range(_STEPS):
        depth += solid(start + depth[..., None] * ray)
        depth = np.minimum(depth, 2 * _REACH)
    points = start + depth[..., None] * ray
    return points, (np.abs(solid(points)) < 0.02).astype(np.float32)


def _normals(solid: Solid, points: Array, rotation: Array) -> Array:
    eps = np.float32(4e-3)
    offsets = eps * np.eye(3, dtype=np.float32)
    slope = np.stack([solid(points + o) - solid(points - o) for o in offsets], axis=-1)
    normal = slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)
    return normal @ rotation


@lru_cache(maxsize=len(SHAPES) * YAWS * PITCHES)
def sculpt(shape: str, yaw: int, pitch: int) -> Array:
    """One solid in one pose: (96, 96, 4) float32, unit normals (x right, y up, z to the eye) and coverage in [0, 1].

    Normals are premultiplied by the coverage, so the map can be resized without dark rims.
    Raises: KeyError when `shape` is not in `SHAPES`.
    """
    solid, rotation = SHAPES[shape], _camera(shape, yaw, pitch)
    points, hit = _trace(solid, rotation)
    layers = np.concatenate([_normals(solid, points, rotation) * hit[..., None], hit[..., None]], axis=-1)
    half = layers.reshape(GRID // 2, 2, GRID // 2, 2, 4).mean(axis=(1, 3))
    return half.astype(np.float32)
