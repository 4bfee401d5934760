"""Pictures of known quality, as material for the tabletop engine's quality adapter.

Three kinds over photographs: true renderings, the same with a fault put in, and the engine's own answers. The first are
what it should paint, the last what it does paint. Answers are scored by the network critic; renderings have what it
gives to true ones, less by the severity of the fault.

    python -m editcritic.plugin.quality_samples --images photos/ --out samples/ --count 600
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.local_scores import local_scores, value_of
from editcritic.plugin.oracle.cases import asked_edits
from editcritic.refine.engine import load_engine
from editcritic.refine.geometry import plan_frame
from editcritic.refine.masks import edit_masks
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.words import read_prompt
from editcritic.refine.tabletop.world import CELL, cells, draw_scene
from editcritic.server.critics import load_critic
from editcritic.server.training.defects import EditCase, inject

__all__ = ["QualitySample", "answered", "framed", "main", "rendered", "write_samples"]

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

_FAULTS = ("seam", "colour_shift", "tone_shift", "exposure", "blur", "resolution", "noise", "melt", "warp")
_CLEAN, _FALL = (
    91.0,
    0.7,
)  # median of the critic over true renderings; share of it that the gravest fault costs
_SHARD = 64


@dataclass(frozen=True, eq=False)
class QualitySample:
    """An edit at the engine's working size, with an answer.

    source, picture: (128, 128, 3) uint8, equal where hole is False. hole: (16, 16) bool, cells to be painted.
    prompt: known words only. quality: visual quality of the answer, 0 to 100.
    """

    source: Pixels
    picture: Pixels
    hole: NDArray[np.bool_]
    prompt: str
    quality: float


def rendered(photos: Sequence[Image.Image], rng: Rng, *, spoiled: bool) -> Iterator[QualitySample]:
    """True renderings without end, as they are or with one fault."""
    while True:
        photo, donor = (photos[i] for i in rng.integers(0, len(photos), 2))
        scene = draw_scene(photo, rng)
        source, target = (np.round(each * 255).astype(np.uint8) for each in (scene.source, scene.target))
        severity = float(rng.uniform(0.1, 1)) if spoiled else 0.0
        if spoiled:
            target = _spoiled(source, target, scene.mask, donor, severity, rng)
        yield QualitySample(source, target, cells(scene.mask), scene.caption, _CLEAN * (1 - _FALL * severity))


def _spoiled(
    source: Pixels, target: Pixels, mask: NDArray[np.bool_], donor: Image.Image, severity: float, rng: Rng
) -> Pixels:
    """The rendering with one fault within the mask."""
    _, blend = edit_masks(source, mask, None)
    other = np.asarray(donor.resize((source.shape[1], source.shape[0])), np.uint8)
    case = EditCase(source, blend, target, target, other)
    worse = inject(case, str(rng.choice(_FAULTS)), severity, int(rng.integers(2**31))).candidate
    return np.where(mask[..., None], worse, target)


def answered(
    photos: Sequence[Image.Image], critic: Any, engine: Any, rng: Rng, count: int
) -> Iterator[QualitySample]:
    """The engine's own answers to `count` edits."""
    for number, case in enumerate(asked_edits(photos, count, int(rng.integers(2**31)))):
        candidate = engine.candidate(case.source, case.mask, case.prompt, seed=number)
        picture = candidate.result()
        scores = local_scores(critic, case.source, (candidate.denoise_mask, candidate.blend_mask), picture)
        quality = value_of(scores.visual_quality)
        yield framed(engine.capabilities, case.source, case.mask, picture, case.prompt, quality)


def framed(
    able: Any, source: Pixels, mask: NDArray[Any], picture: Pixels, prompt: str, quality: float
) -> QualitySample:
    """An answer in the crop and at the size in which the engine works. able: its capabilities."""
    reach = np.maximum(*edit_masks(source, mask, None))
    frame = plan_frame(reach, able.native, able.multiple, able.context, able.centred)
    hole = frame.cut_mask(reach, able.multiple)[::CELL, ::CELL] > 0
    cut = [np.asarray(frame.cut(each, reach), np.uint8) for each in (source, picture)]
    return QualitySample(cut[0], cut[1], hole, read_prompt(prompt).text, quality)


def write_samples(samples: Sequence[QualitySample], file: Path) -> None:
    """Keep those that have a quality in one .npz: source, picture, hole, prompt, quality, a row each."""
    known = [each for each in samples if np.isfinite(each.quality)]
    columns: dict[str, Any] = {
        name: np.stack([np.asarray(getattr(each, name)) for each in known])
        for name in ("source", "picture", "hole", "prompt", "quality")
    }
    partial = file.with_suffix(".part.npz")
    np.savez_compressed(partial, **columns)
    partial.replace(file)


def _in_shards(samples: Iterator[QualitySample], count: int, folder: Path, name: str) -> None:
    for first in range(0, count, _SHARD):
        shard = [next(samples) for _ in range(min(_SHARD, count - first))]
        write_samples(shard, folder / f"{name}-{first:05d}.npz")


def main(arguments: list[str] | None = None) -> None:
    """Write `count` samples of each kind."""
    parser = argparse.ArgumentParser(prog="python -m editcritic.plugin.quality_samples")
    parser.add_argument("--images", type=Path, required=True, help="folder of training photographs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples")
    parser.add_argument("--count", type=int, default=600, help="samples of each kind")
    parser.add_argument("--kinds", default="rendered,spoiled,answered")
    parser.add_argument("--seed", type=int, default=40)
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    photos = read_photos(asked.images)
    for place, kind in enumerate(asked.kinds.split(",")):
        rng = np.random.default_rng((asked.seed, place))
        if kind == "answered":
            made = answered(photos, load_critic("network"), load_engine("tabletop"), rng, asked.count)
        else:
            made = rendered(photos, rng, spoiled=kind == "spoiled")
        _in_shards(made, asked.count, asked.out, kind)


if __name__ == "__main__":
    main()
