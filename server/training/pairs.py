"""Label-free pairs: groups of answers to one edit whose order is known because the faults were put in.

A group holds a clean answer, the same fault at two severities, and another fault: within it every order is
known, between groups none is claimed. Groups are drawn from seeds, so a stream of them can be cut, resumed
and spread over processes and stays the same.

Sources: same-content ordered pairs of ELIQ (2026) and ordered triplets of TRIQA (2025); defects painted on
purpose as in ArtiAgent (2026). Severities, masks and mixture are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.network.view import WHOLE_SIDE, find_regions
from editcritic.server.training.defects import INJECTIONS, EditCase, clean_control, draw_mask, inject, soften
from editcritic.server.training.preview import as_preview
from editcritic.v1.images import decode_file, decode_mask_file

__all__ = ["GROUP_SIZE", "Group", "PairSource", "Photographs", "read_photographs", "reencode"]

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]

GROUP_SIZE = 4
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_HIDDEN_SOURCE = 0.5
_HIDDEN_MASK = 0.15
_PREVIEW = 0.12
_REENCODED = 0.1
_OBJECT_MASK = 0.5
_FOREIGN_OBJECT_MASK = 0.2
_TRIES = 6
_HARD = frozenset(
    {
        "seam",
        "light_gradient",
        "jpeg_blocks",
        "banding",
        "repeat",
        "warp",
        "duplicate",
        "omit",
        "foreign",
        "leftover",
    }
)
"""Faults that are learned more slowly than the others."""
_HARD_WEIGHT = 2.5


@dataclass(frozen=True, eq=False)
class Group:
    """Answers to one edit; n candidates of side S.

    Attributes:
        source: (S, S, 3) uint8; inside the mask it may be hidden under one colour.
        alpha: (S, S) float32 in [0, 1].
        regions: (4, S, S) float32; core, rim, ring, outside.
        candidates: (n, S, S, 3) uint8.
        whole: (n, 96, 96, 3) uint8; each candidate in its photograph.
        whole_alpha: (96, 96) float32.
        injected: name of each candidate's fault; empty for a clean one.
        severities: (n,) float32; 0 for a clean one.
        injured: (n, S, S) bool.
        progress: share of the steps after which the candidates are shown; 1 for finished ones.
        mask_known: False when the critic has to find the region itself.
    """

    source: Pixels
    alpha: Plane
    regions: Plane
    candidates: Pixels
    whole: Pixels
    whole_alpha: Plane
    injected: tuple[str, ...]
    severities: Plane
    injured: NDArray[np.bool_]
    progress: float = 1.0
    mask_known: bool = True


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs in memory.

    Attributes:
        images: each (H, W, 3) uint8.
        masks: object masks of each, (H, W) bool; mostly none.
        names: of the files, without suffix.
    """

    images: Sequence[Pixels]
    masks: Sequence[Sequence[NDArray[np.bool_]]]
    names: Sequence[str]


def read_photographs(files: Sequence[Path], masks: Path | None = None) -> Photographs:
    """Read photographs, and the object masks `<photo>_<anything>.png` in the folder `masks`."""
    found = [decode_file(file.read_bytes()) for file in files]
    drawn = []
    for file, image in zip(files, found, strict=True):
        own = sorted(masks.glob(f"{file.stem}_*.png")) if masks else []
        planes = [decode_mask_file(path.read_bytes()) > 0.5 for path in own]
        drawn.append([plane for plane in planes if plane.shape == image.shape[:2]])
    return Photographs(found, drawn, [file.stem for file in files])


class PairSource:
    """`source.group(i)`: the i-th group, from the seed and i alone.

    Args:
        photographs: what to spoil.
        side: S of the groups, a multiple of 32.
        seed: names the stream.
        names: injections to draw from; all by default.
    """

    def __init__(
        self, photographs: Photographs, side: int, seed: int, names: Sequence[str] = tuple(INJECTIONS)
    ) -> None:
        self._photos, self._side, self._seed, self._names = photographs, side, seed, tuple(names)
        self._objects = [plane for planes in photographs.masks for plane in planes]
        self._with_masks = [i for i, planes in enumerate(photographs.masks) if planes]

    def group(self, index: int) -> Group:
        """The group of this index."""
        rng = np.random.default_rng((self._seed, index))
        canvas, corner, case = self._edit(rng)
        spoiled = _spoil(case, self._names, rng)
        return _finish(canvas, corner, case, spoiled, rng)

    def _edit(self, rng: np.random.Generator) -> tuple[Pixels, tuple[int, int], EditCase]:
        own = self._with_masks and rng.random() < _OBJECT_MASK
        pick = int(rng.choice(self._with_masks)) if own else int(rng.integers(len(self._photos.images)))
        photo, drawn = _vary(self._photos.images[pick], self._photos.masks[pick], self._side, rng)
        corner = tuple(int(rng.integers(0, length - self._side + 1)) for length in photo.shape[:2])
        mask = self._mask(photo, drawn, corner, rng)
        corner = _around(mask, self._side, rng)
        here = slice(corner[0], corner[0] + self._side), slice(corner[1], corner[1] + self._side)
        donor = self._photos.images[int(rng.integers(len(self._photos.images)))]
        donor = np.asarray(
            cv2.resize(donor, (self._side, self._side), interpolation=cv2.INTER_AREA), np.uint8
        )
        case = clean_control(
            np.ascontiguousarray(photo[here]),
            donor,
            np.ascontiguousarray(mask[here]),
            int(rng.integers(2**31)),
        )
        return photo, (corner[0], corner[1]), case

    def _mask(
        self, photo: Pixels, drawn: list[Plane], corner: tuple[int, ...], rng: np.random.Generator
    ) -> Plane:
        shape = (photo.shape[0], photo.shape[1])
        area = self._side**2
        fitting = [plane for plane in drawn if 0.01 * area < plane.sum() < 0.4 * area]
        if fitting and rng.random() < 0.7:
            mask = fitting[int(rng.integers(len(fitting)))]
        else:
            mask = np.zeros(shape, np.float32)
            here = slice(corner[0], corner[0] + self._side), slice(corner[1], corner[1] + self._side)
            mask[here] = self._placed(rng)
        return soften(mask, float(rng.choice([0, 0, 0, 0.7, 1.0, 2.0, 3.0])))

    def _placed(self, rng: np.random.Generator) -> Plane:
        """A drawn mask, or the shape of an object of another photograph, (S, S)."""
        side = self._side
        if self._objects and rng.random() < _FOREIGN_OBJECT_MASK:
            shape = self._objects[int(rng.integers(len(self._objects)))].astype(np.uint8)
            x, y, width, height = cv2.boundingRect(shape)
            wanted = float(rng.uniform(0.3, 0.65)) * side / max(width, height)
            size = (max(8, int(width * wanted)), max(8, int(height * wanted)))
            small = cv2.resize(shape[y : y + height, x : x + width], size, interpolation=cv2.INTER_NEAREST)
            top, left = int(rng.integers(0, side - size[1])), int(rng.integers(0, side - size[0]))
            placed = np.zeros((side, side), np.float32)
            placed[top : top + size[1], left : left + size[0]] = small
            if placed.sum() > 200:
                return placed
        share = float(np.exp(rng.uniform(np.log(0.03), np.log(0.32))))
        return draw_mask((side, side), int(rng.integers(2**31)), (share, share * 1.01))


def _vary(
    photo: Pixels, masks: Sequence[NDArray[np.bool_]], side: int, rng: np.random.Generator
) -> tuple[Pixels, list[Plane]]:
    """The photograph at another scale, side to side, re-encoded: what no critic may call a fault."""
    least = (side + 1) / min(photo.shape[:2])
    scale = max(least, float(np.exp(rng.uniform(np.log(0.6), np.log(1.3)))))
    size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    varied = np.asarray(cv2.resize(photo, size, interpolation=how), np.uint8)
    drawn = [
        np.asarray(
            cv2.resize(each.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5, np.float32
        )
        for each in masks
    ]
    if rng.random() < 0.2:
        varied = reencode(varied, int(rng.integers(40, 95)))
    if rng.random() < 0.15:
        grain = rng.normal(0, rng.uniform(1, 7), varied.shape)
        varied = np.clip(varied + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        varied, drawn = varied[:, ::-1], [each[:, ::-1] for each in drawn]
    return np.ascontiguousarray(varied), [np.ascontiguousarray(each) for each in drawn]


def reencode(image: Pixels, quality: int) -> Pixels:
    """The picture after a JPEG of this quality."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def _around(mask: Plane, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a window that holds the mask, mostly near its middle."""
    corner = []
    for axis in (0, 1):
        used = np.flatnonzero((mask > 0.5).any(axis=1 - axis))
        middle = int(used.mean()) + int(rng.normal(0, side / 20))
        corner.append(int(np.clip(middle - side // 2, 0, mask.shape[axis] - side)))
    return corner[0], corner[1]


def _spoil(case: EditCase, names: Sequence[str], rng: np.random.Generator) -> list[EditCase]:
    """The same fault twice, the milder first, and another one."""
    mild = float(rng.uniform(0.2, 0.6))
    severities = [(mild, min(1.0, mild + float(rng.uniform(0.25, 0.5)))), (float(rng.uniform(0.2, 1.0)),)]
    weights = np.array([_HARD_WEIGHT if name in _HARD else 1.0 for name in names])
    found: list[EditCase] = []
    for wanted in severities:
        for _ in range(_TRIES):
            name, seed = str(rng.choice(list(names), p=weights / weights.sum())), int(rng.integers(2**31))
            if not INJECTIONS[name].applies(case) or any(each.injected == name for each in found):
                continue
            made = [inject(case, name, severity, seed) for severity in wanted]
            if made[0].visible:
                found += made
                break
    return found


def _finish(
    canvas: Pixels, corner: tuple[int, int], case: EditCase, spoiled: list[EditCase], rng: np.random.Generator
) -> Group:
    answers = [case, *spoiled]
    # A group that found too few visible faults shows the clean answer again: controls are a class.
    answers += [case] * (GROUP_SIZE - len(answers))
    progress = float(rng.uniform(0.15, 0.9)) if rng.random() < _PREVIEW else 1.0
    quality = int(rng.integers(88, 99)) if rng.random() < _REENCODED else 0
    noise = int(rng.integers(2**31))
    shown = []
    for answer in answers:
        image = (
            answer.candidate if progress == 1 else as_preview(answer.candidate, case.mask, progress, noise)
        )
        shown.append(reencode(image, quality) if quality else image)
    mask_known = rng.random() >= _HIDDEN_MASK
    hide = rng.random() < (_HIDDEN_SOURCE if mask_known else 0.25)
    # What is left of the source can only be told by who sees the source.
    hide = hide and not any(answer.injected in ("leftover", "unchanged") for answer in answers)
    untouched = case.mask < 1 / 510
    whole, whole_alpha = _wholes(canvas, corner, case.mask, shown)
    return Group(
        source=_hidden(case, rng) if hide else case.source,
        alpha=case.mask,
        regions=find_regions(case.mask, untouched),
        candidates=np.stack(shown),
        whole=whole,
        whole_alpha=whole_alpha,
        injected=tuple(answer.injected for answer in answers),
        severities=np.array([answer.severity for answer in answers], np.float32),
        injured=np.stack([answer.injured for answer in answers]),
        progress=progress,
        mask_known=bool(mask_known),
    )


def _hidden(case: EditCase, rng: np.random.Generator) -> Pixels:
    """The source with its inside under grey, or under any colour."""
    colour = np.full(3, 128) if rng.random() < 0.6 else rng.integers(0, 256, 3)
    alpha = (case.mask > 0)[..., None]
    return np.where(alpha, colour, case.source).astype(np.uint8)


def _wholes(
    canvas: Pixels, corner: tuple[int, int], mask: Plane, candidates: Sequence[Pixels]
) -> tuple[Pixels, Plane]:
    """Each candidate in its photograph, and the mask there, at the size of the whole view."""
    side, (height, width) = mask.shape[0], canvas.shape[:2]
    size = (WHOLE_SIDE, WHOLE_SIDE)
    plane = np.zeros((height, width), np.float32)
    here = (slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
    plane[here] = mask
    small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    top, bottom = (round(row * WHOLE_SIDE / height) for row in (corner[0], corner[0] + side))
    left, right = (round(column * WHOLE_SIDE / width) for column in (corner[1], corner[1] + side))
    wholes = []
    for candidate in candidates:
        picture = small.copy()
        picture[top:bottom, left:right] = cv2.resize(
            candidate, (right - left, bottom - top), interpolation=cv2.INTER_AREA
        )
        wholes.append(picture)
    return np.stack(wholes), np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)
