"""All families of measurements, one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.evidence import preservation
from editcritic.server.critics.evidence.bands import find_bands, judge_bands
from editcritic.server.critics.evidence.compression import judge_blocks
from editcritic.server.critics.evidence.detail import judge_detail
from editcritic.server.critics.evidence.fill import (
    black_map,
    flat_map,
    judge_fill,
    judge_unchanged,
    unchanged_map,
)
from editcritic.server.critics.evidence.leftovers import judge_leftover
from editcritic.server.critics.evidence.repeats import judge_repeats
from editcritic.server.critics.evidence.scene import Scene
from editcritic.server.critics.evidence.seam import PLANES, judge_border
from editcritic.server.critics.finding import Finding
from editcritic.server.critics.views import Planes, crop_planes
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled

__all__ = ["measure"]


def measure(
    scene: Scene, edit: DecodedEdit, candidate: NDArray[np.uint8], is_cancelled: Callable[[], bool]
) -> list[Finding]:
    """One finding for each kind that can be measured on this candidate.

    Args:
        candidate: (H, W, 3) uint8.
        is_cancelled: asked between families.

    Raises:
        Cancelled: nobody waits for the answer any more.
    """
    views, planes = scene.views, crop_planes(candidate, scene.views)
    unchanged = unchanged_map(scene.source, planes)
    steps: list[Callable[[], list[Finding]]] = [
        lambda: _outside(scene, edit, candidate),
        lambda: [
            judge_fill(pb.DEFECT_KIND_FLAT_FILL, "flat_share", flat_map(planes), views, scene.flat),
            judge_fill(pb.DEFECT_KIND_BLACK_FILL, "black_share", black_map(planes), views, scene.black),
            judge_unchanged(unchanged, views),
        ],
        lambda: [judge_leftover(scene.structure, scene.source, planes, unchanged, views)],
        lambda: _border(scene, planes),
        lambda: judge_detail(scene.detail, planes.luma, views) if scene.detail else [],
        lambda: _few_tones(scene, planes),
        lambda: [judge_repeats(planes.luma, views, scene.repeat_area)],
    ]
    findings = []
    for step in steps:
        if is_cancelled():
            raise Cancelled("nobody waits for this critique any more")
        findings += step()
    return findings


def _border(scene: Scene, planes: Planes) -> list[Finding]:
    if scene.border is None:
        return []
    pixels = scene.border.border.pixels
    band = {name: getattr(planes, name).ravel()[pixels] for name in PLANES}
    return judge_border(scene.border, band, scene.views)


def _few_tones(scene: Scene, planes: Planes) -> list[Finding]:
    """Compression blocks, and bands: coarse compression leaves flat blocks, which are not counted as bands again."""
    bands = judge_bands(find_bands(planes.rgb), scene.views, scene.bands)
    if not scene.windows:
        return [bands]
    blocks = judge_blocks(planes.luma, scene.views.inside, scene.blockiness)
    return [blocks, bands] if bands.strength > blocks.strength else [blocks]


def _outside(scene: Scene, edit: DecodedEdit, candidate: NDArray[np.uint8]) -> list[Finding]:
    leak = preservation.find_leak(edit, candidate, scene.outside)
    return [] if leak is None else [preservation.judge_outside(leak, edit, candidate, scene.views)]
