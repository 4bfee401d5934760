"""Edits whose faults are known: clean controls, and injected defects of any severity.

A *clean control* is an edit that was answered perfectly: the candidate is the untouched photograph, and the
source is the same photograph with something else in the mask, which had to go. An *injected* case is the
same edit with one defect of a severity in (0, 1] worked into the candidate, blended by the mask as an editor
would. Everything follows from a seed.

Source: ordered pairs of the same content (TRIQA, ELIQ), defects painted inside a known mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb

__all__ = ["INJECTIONS", "EditCase", "Injection", "clean_control", "draw_mask", "inject", "soften"]

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float32]
Paint = Callable[["EditCase", float, np.random.Generator], Pixels]


@dataclass(frozen=True, eq=False)
class EditCase:
    """An edit with an answer of known quality.

    Attributes:
        source: (H, W, 3) uint8; what was to be edited.
        mask: (H, W) float32 in [0, 1], hard or soft; the denoise mask, by which the answer is blended too.
        candidate: (H, W, 3) uint8; the answer.
        clean: (H, W, 3) uint8; the perfect answer.
        injected: name of the injection; empty for a clean control.
        severity: of the injection, in (0, 1]; 0 for a clean control.
    """

    source: Pixels
    mask: Plane
    candidate: Pixels
    clean: Pixels
    injected: str = ""
    severity: float = 0.0

    @property
    def injured(self) -> NDArray[np.bool_]:
        """(H, W) bool: where the candidate visibly differs from the perfect answer."""
        change = cv2.absdiff(self.candidate, self.clean).max(axis=2)
        return np.asarray(change > max(2, 0.15 * int(change.max(initial=0))))


@dataclass(frozen=True)
class Injection:
    """One way to spoil an edit.

    Attributes:
        kinds: the kinds of defect that name it rightly, the usual one first.
        dimension: the score that has to fall; UNSPECIFIED means the overall score.
        local: whether it injures a part of the mask (or of the outside), so that a map can be checked.
        paint: (case, severity, rng) -> candidate.
        applies: whether the defect can show in this edit at all.
    """

    kinds: tuple[pb.DefectKind.ValueType, ...]
    dimension: pb.Dimension.ValueType
    local: bool
    paint: Paint
    applies: Callable[[EditCase], bool] = bool


def clean_control(photo: Pixels, donor: Pixels, mask: Plane, seed: int) -> EditCase:
    """An edit that was answered perfectly.

    Args:
        photo: (H, W, 3) uint8, the answer.
        donor: (h, w, 3) uint8, another photograph, of which something is put into the mask.
        mask: (H, W) float32 in [0, 1].
        seed: decides what stands in the mask.
    """
    rng = np.random.default_rng(seed)
    alpha = mask
    if rng.random() < 0.5:
        # The object to be removed seldom fills the whole mask.
        depth = max(1, round(0.06 * float(np.sqrt((mask > 0.5).sum()))))
        shrunk = np.asarray(cv2.erode(mask, np.ones((2 * depth + 1,) * 2, np.uint8)), np.float32)
        alpha = shrunk if (shrunk > 0.5).sum() >= 50 else mask
    source = _blend(photo, _foreign(photo, donor, rng), alpha)
    return EditCase(source=source, mask=mask, candidate=photo.copy(), clean=photo)


def inject(case: EditCase, name: str, severity: float, seed: int) -> EditCase:
    """The same edit with a defect. The same seed and another severity give the same fault, milder or graver.

    Raises:
        ValueError: `severity` is outside (0, 1], or there is no injection of that name.
    """
    if not 0 < severity <= 1:
        raise ValueError(f"severity {severity} is not in (0, 1]")
    if name not in INJECTIONS:
        raise ValueError(f"no injection {name!r}; known are {', '.join(INJECTIONS)}")
    candidate = INJECTIONS[name].paint(case, severity, np.random.default_rng(seed))
    return replace(case, candidate=candidate, injected=name, severity=severity)


def draw_mask(shape: tuple[int, int], seed: int) -> Plane:
    """A hard box, ellipse or free-form stroke of 4 to 20 % of the picture, (H, W) float32.

    Source: free-form strokes as in Yu et al., "Free-form image inpainting with gated convolution" (2019).
    """
    rng = np.random.default_rng(seed)
    height, width = shape
    mask = np.zeros(shape, np.uint8)
    side = np.sqrt(rng.uniform(0.04, 0.2) * height * width)
    stretch = float(np.exp(rng.uniform(-0.5, 0.5)))
    half = (max(4, int(side * stretch / 2)), max(4, int(side / stretch / 2)))
    middle = tuple(
        int(rng.uniform(min(part, length / 2), max(length - part, length / 2)))
        for part, length in zip(half, (width, height), strict=True)
    )
    shape_kind = rng.integers(3)
    if shape_kind == 0:
        corner = (middle[0] - half[0], middle[1] - half[1])
        cv2.rectangle(mask, corner, (middle[0] + half[0], middle[1] + half[1]), 1, -1)
    elif shape_kind == 1:
        cv2.ellipse(mask, middle, half, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    else:
        _stroke(mask, middle, side, rng)
    return mask.astype(np.float32)


def soften(mask: Plane, radius_px: float) -> Plane:
    """The mask with a rim blurred by a Gaussian of `radius_px`; 0 leaves it hard."""
    if radius_px <= 0:
        return mask
    soft = cv2.GaussianBlur(mask, (0, 0), radius_px)
    return np.where(soft < 0.01, 0.0, soft).astype(np.float32)


def _stroke(mask: Pixels, start: tuple[int, ...], side: float, rng: np.random.Generator) -> None:
    thickness = max(6, int(side * 0.35))
    point, angle = np.array(start, float), rng.uniform(0, 2 * np.pi)
    limit = np.array(mask.shape[::-1], float) - 1
    for _ in range(int(rng.integers(2, 5))):
        angle += rng.uniform(-1.2, 1.2)
        following = np.clip(point + side * 0.5 * np.array([np.cos(angle), np.sin(angle)]), 0, limit)
        ends = (int(point[0]), int(point[1])), (int(following[0]), int(following[1]))
        cv2.line(mask, *ends, color=1, thickness=thickness)
        point = following


def _blend(below: Pixels, above: NDArray[Any], alpha: Plane) -> Pixels:
    mixed = below + alpha[..., None] * (above.astype(np.float32) - below)
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def _foreign(photo: Pixels, donor: Pixels, rng: np.random.Generator) -> Plane:
    """Something else: mostly another photograph, sometimes one colour with or without grain."""
    height, width = photo.shape[:2]
    choice = rng.random()
    if choice < 0.75:
        fitted = cv2.resize(donor, (width, height), interpolation=cv2.INTER_AREA)
        return fitted[:, ::-1].astype(np.float32)
    colour = rng.uniform(20, 235, 3).astype(np.float32)
    plain = np.broadcast_to(colour, photo.shape).astype(np.float32)
    return plain + rng.normal(0, 12, photo.shape).astype(np.float32) if choice < 0.88 else plain


def _lab_shift(case: EditCase, shift: NDArray[np.floating]) -> Pixels:
    """The candidate with (…, 3) added in Lab."""
    lab = cv2.cvtColor(case.clean.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    moved = (lab + shift).astype(np.float32)
    moved[..., 0] = np.clip(moved[..., 0], 0, 100)
    rgb = np.clip(cv2.cvtColor(moved, cv2.COLOR_LAB2RGB) * 255, 0, 255)
    return _blend(case.clean, rgb, case.mask)


def _place(case: EditCase) -> tuple[Plane, Plane]:
    """Place in the mask's box from -1 to 1: columns and rows, (H, W) each."""
    rows, columns = np.nonzero(case.mask > 0.5)
    height, width = case.mask.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across = (x - (columns.min() + columns.max()) / 2) / max(np.ptp(columns) / 2, 1)
    down = (y - (rows.min() + rows.max()) / 2) / max(np.ptp(rows) / 2, 1)
    return across.astype(np.float32), down.astype(np.float32)


def _part(case: EditCase, share: float, rng: np.random.Generator) -> Plane:
    """(H, W) hard mask of a growing share of the mask, from a random side: nested for growing shares."""
    across, down = _place(case)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * across + np.sin(angle) * down
    inside = case.mask > 0.5
    level = np.quantile(along[inside], 1 - share)
    return np.where(along >= level, case.mask, 0).astype(np.float32)


def _depth(case: EditCase) -> Plane:
    """(H, W) distance to the border in pixels, positive inside."""
    inside = (case.mask > 0.5).astype(np.uint8)
    inner = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    outer = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    return np.where(inside > 0, inner - 0.5, 0.5 - outer).astype(np.float32)


def _outside_changed(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    outside = (case.mask == 0).astype(np.float32)
    variant = rng.integers(3)
    if variant == 0:
        blurred = cv2.GaussianBlur(case.clean, (0, 0), 0.5 + 1.2 * severity)
        return _blend(case.clean, blurred, outside)
    shift = (3 + 9 * severity) * rng.choice([-1.0, 1.0], 3)
    if variant == 1:
        return _blend(case.clean, case.clean + shift, outside)
    height, width = case.mask.shape
    spot = np.zeros((height, width), np.float32)
    middle = (int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.2, 0.8) * height))
    radius = int((0.08 + 0.12 * severity) * max(height, width))
    cv2.circle(spot, middle, radius, 1.0, -1)
    # A spot that falls into the mask would change nothing.
    spot = np.where(outside > 0, spot, 0)
    if spot.sum() < 30:
        spot = outside
    return _blend(case.clean, case.clean + 3 * shift, spot)


def _seam(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    depth = _depth(case)
    across, down = _place(case)
    angle = rng.uniform(0, 2 * np.pi)
    sides = np.clip(1.2 + 2 * (np.cos(angle) * across + np.sin(angle) * down), 0, 1)
    sign = float(rng.choice([-1.0, 1.0]))
    step, line = np.where(depth > 0, np.exp(-depth / 7.0), 0.0), np.exp(-0.5 * (depth / 0.9) ** 2)
    fade = step if rng.random() < 0.5 else line
    amount = sign * (3 + 15 * severity) * fade * sides
    touched = replace(
        case, mask=np.where(case.mask > 0, np.maximum(case.mask, depth > -2), 0).astype(np.float32)
    )
    zero = np.zeros_like(amount)
    return _lab_shift(touched, np.stack([amount, zero, zero], axis=-1))


def _colour_shift(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    angle, size = rng.uniform(0, 2 * np.pi), 4 + 16 * severity
    return _lab_shift(case, np.array([0.0, size * np.cos(angle), size * np.sin(angle)]))


def _tone_shift(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    # Away from the near end of the scale, where a shift would clip to nothing.
    sign = 1.0 if case.clean[case.mask > 0.5].mean() < rng.uniform(90, 165) else -1.0
    return _lab_shift(case, np.array([sign * (4 + 14 * severity), 0.0, 0.0]))


def _light(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    across, down = _place(case)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (5 + 18 * severity) * np.clip(np.cos(angle) * across + np.sin(angle) * down, -1, 1)
    zero = np.zeros_like(slope)
    return _lab_shift(case, np.stack([slope, zero, zero], axis=-1))


def _blur(case: EditCase, severity: float, _rng: np.random.Generator) -> Pixels:
    return _blend(case.clean, cv2.GaussianBlur(case.clean, (0, 0), 0.5 + 1.8 * severity), case.mask)


def _sharpen(case: EditCase, severity: float, _rng: np.random.Generator) -> Pixels:
    clean = case.clean.astype(np.float32)
    detail = clean - cv2.GaussianBlur(clean, (0, 0), 1.2)
    return _blend(case.clean, np.clip(clean + (0.4 + 2.6 * severity) * detail, 0, 255), case.mask)


def _noise(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    grain = rng.normal(0, 2 + 14 * severity, (*case.mask.shape, 1)) + rng.normal(0, 2, case.clean.shape)
    return _blend(case.clean, np.clip(case.clean + grain, 0, 255), case.mask)


def _jpeg(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    dy, dx = rng.integers(0, 8, 2)
    moved = np.roll(case.clean, (int(dy), int(dx)), axis=(0, 1))
    quality = round(45 - 37 * severity)
    _, data = cv2.imencode(".jpg", moved[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    coarse = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return _blend(case.clean, np.roll(coarse, (-int(dy), -int(dx)), axis=(0, 1)), case.mask)


def _repeat(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    """One patch with texture, stamped into the mask one to four times."""
    depth = _depth(case)
    inside = np.argwhere(depth > 0.35 * depth.max())
    size = int(np.clip(0.55 * np.sqrt((case.mask > 0.5).sum()), 18, 64))
    height, width = case.mask.shape
    size = min(size, height // 2, width // 2)
    patch = _textured_patch(case, size, rng)
    stamp = cv2.GaussianBlur(np.pad(np.ones((size - 4, size - 4), np.float32), 2), (0, 0), 1.0)
    canvas, alpha = case.clean.astype(np.float32), np.zeros(case.mask.shape, np.float32)
    spots = inside[rng.permutation(len(inside))[:4]]
    for row, column in spots[: max(1, round(4 * severity))]:
        y, x = (
            int(np.clip(row - size // 2, 0, height - size)),
            int(np.clip(column - size // 2, 0, width - size)),
        )
        here = (slice(y, y + size), slice(x, x + size))
        canvas[here] = canvas[here] + stamp[..., None] * (patch - canvas[here])
        alpha[here] = 1.0
    return _blend(case.clean, canvas, case.mask * alpha)


def _textured_patch(case: EditCase, size: int, rng: np.random.Generator) -> Plane:
    grey = cv2.cvtColor(case.clean, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    best, found = -1.0, case.clean[:size, :size]
    for _ in range(12):
        y, x = int(rng.integers(0, height - size + 1)), int(rng.integers(0, width - size + 1))
        part = grey[y : y + size, x : x + size]
        texture = float((part - cv2.GaussianBlur(part, (0, 0), 2)).std())
        if texture > best:
            best, found = texture, case.clean[y : y + size, x : x + size]
    return found.astype(np.float32)


def _flat(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    colour = case.clean[case.mask > 0.5].mean(axis=0)
    return _blend(case.clean, np.broadcast_to(colour, case.clean.shape), _part(case, severity, rng))


def _black(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    return _blend(case.clean, np.zeros(case.clean.shape, np.float32), _part(case, severity, rng))


def _unchanged(case: EditCase, severity: float, rng: np.random.Generator) -> Pixels:
    part = (_part(case, severity, rng) > 0)[..., None]
    return np.where(part, case.source, case.clean)


def _leftover(case: EditCase, severity: float, _rng: np.random.Generator) -> Pixels:
    return _blend(case.clean, case.source, (0.1 + 0.5 * severity) * (case.mask > 0).astype(np.float32))


def _has_structure(case: EditCase) -> bool:
    """Of a plain colour nothing recognisable can be left."""
    grey = cv2.cvtColor(case.source, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = cv2.GaussianBlur(grey, (0, 0), 0.7) - cv2.GaussianBlur(grey, (0, 0), 4.0)
    return float(fine[case.mask > 0.5].std()) > 6.0


_HARMONY, _NATURAL = pb.DIMENSION_HARMONY, pb.DIMENSION_NATURALNESS
_TONAL = (pb.DEFECT_KIND_TONE_SHIFT, pb.DEFECT_KIND_LIGHT_MISMATCH, pb.DEFECT_KIND_SEAM)

INJECTIONS: Mapping[str, Injection] = MappingProxyType(
    {
        "outside_changed": Injection(
            (pb.DEFECT_KIND_OUTSIDE_CHANGED,), pb.DIMENSION_PRESERVATION, True, _outside_changed
        ),
        "seam": Injection((pb.DEFECT_KIND_SEAM,), _HARMONY, True, _seam),
        "colour_shift": Injection((pb.DEFECT_KIND_COLOUR_SHIFT,), _HARMONY, False, _colour_shift),
        "tone_shift": Injection((pb.DEFECT_KIND_TONE_SHIFT,), _HARMONY, False, _tone_shift),
        "light_gradient": Injection((pb.DEFECT_KIND_LIGHT_MISMATCH,), _HARMONY, False, _light),
        "blur": Injection((pb.DEFECT_KIND_SHARPNESS_MISMATCH,), _HARMONY, False, _blur),
        "sharpen": Injection(
            (pb.DEFECT_KIND_SHARPNESS_MISMATCH, pb.DEFECT_KIND_OVERSHARPENED), _HARMONY, False, _sharpen
        ),
        "noise": Injection((pb.DEFECT_KIND_NOISE_MISMATCH,), _HARMONY, False, _noise),
        "jpeg_blocks": Injection((pb.DEFECT_KIND_COMPRESSION_MISMATCH,), _HARMONY, False, _jpeg),
        "repeat": Injection((pb.DEFECT_KIND_TEXTURE_REPEAT,), _NATURAL, True, _repeat),
        "flat": Injection((pb.DEFECT_KIND_FLAT_FILL,), _NATURAL, True, _flat),
        "black": Injection((pb.DEFECT_KIND_BLACK_FILL,), _NATURAL, True, _black),
        "unchanged": Injection((pb.DEFECT_KIND_UNCHANGED,), pb.DIMENSION_UNSPECIFIED, False, _unchanged),
        "leftover": Injection((pb.DEFECT_KIND_LEFTOVER,), _NATURAL, False, _leftover, _has_structure),
    }
)
"""Every injection by name."""
