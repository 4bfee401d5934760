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
from typing import TypeAlias

import numpy as np

from editcritic.server.training.defects import content, detail, failures, tone
from editcritic.server.training.defects.case import EditCase, Pixels
from editcritic.server.training.defects.controls import clean_control
from editcritic.server.training.defects.masks import draw_mask, soften
from editcritic.v1 import critic_pb2 as pb

__all__ = ["INJECTIONS", "EditCase", "Injection", "clean_control", "draw_mask", "inject", "soften"]

Paint = Callable[[EditCase, float, np.random.Generator], Pixels]
Kind: TypeAlias = pb.DefectKind.ValueType
_NATURAL, _HARMONY, _PRESERVATION = (
    pb.DIMENSION_NATURALNESS,
    pb.DIMENSION_HARMONY,
    pb.DIMENSION_PRESERVATION,
)


@dataclass(frozen=True)
class Injection:
    """One way to spoil an edit.

    Attributes:
        kinds: the kinds of defect that name it rightly, the usual one first.
        dimension: the score that has to fall; UNSPECIFIED means the overall score.
        local: whether it injures a part of the mask (or of the outside), so that a map can be checked.
        paint: (case, severity, rng) -> candidate.
        applies: whether the defect can show in this edit at all.
        also: another dimension that falls with it.
    """

    kinds: tuple[Kind, ...]
    dimension: pb.Dimension.ValueType
    local: bool
    paint: Paint
    applies: Callable[[EditCase], bool] = bool
    also: pb.Dimension.ValueType = pb.DIMENSION_UNSPECIFIED


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


def _harmony(
    paint: Paint, *kinds: Kind, also: pb.Dimension.ValueType = pb.DIMENSION_UNSPECIFIED
) -> Injection:
    return Injection(kinds, _HARMONY, False, paint, also=also)


def _natural(paint: Paint, *kinds: Kind, local: bool = True, also: bool = False) -> Injection:
    return Injection(kinds, _NATURAL, local, paint, also=_HARMONY if also else pb.DIMENSION_UNSPECIFIED)


_SHARPNESS, _MELTED = pb.DEFECT_KIND_SHARPNESS_MISMATCH, pb.DEFECT_KIND_MELTED_TEXTURE

INJECTIONS: Mapping[str, Injection] = MappingProxyType(
    {
        "outside_changed": Injection(
            (pb.DEFECT_KIND_OUTSIDE_CHANGED,), _PRESERVATION, True, failures.outside_changed
        ),
        "seam": Injection((pb.DEFECT_KIND_SEAM,), _HARMONY, True, tone.seam),
        "colour_shift": _harmony(tone.colour_shift, pb.DEFECT_KIND_COLOUR_SHIFT),
        "tone_shift": _harmony(tone.tone_shift, pb.DEFECT_KIND_TONE_SHIFT),
        "exposure": _harmony(tone.exposure, pb.DEFECT_KIND_TONE_SHIFT),
        "light_gradient": _harmony(tone.light_gradient, pb.DEFECT_KIND_LIGHT_MISMATCH),
        "blur": _harmony(detail.blur, _SHARPNESS, _MELTED, also=_NATURAL),
        "resolution": _harmony(detail.resolution, _SHARPNESS, _MELTED, also=_NATURAL),
        "sharpen": _harmony(detail.sharpen, pb.DEFECT_KIND_OVERSHARPENED, _SHARPNESS, also=_NATURAL),
        "noise": _harmony(detail.noise, pb.DEFECT_KIND_NOISE_MISMATCH),
        "jpeg_blocks": _harmony(detail.jpeg_blocks, pb.DEFECT_KIND_COMPRESSION_MISMATCH, also=_NATURAL),
        "banding": _natural(tone.banding, pb.DEFECT_KIND_BANDING, local=False),
        "repeat": _natural(content.repeat, pb.DEFECT_KIND_TEXTURE_REPEAT, pb.DEFECT_KIND_DUPLICATED_PART),
        "melt": _natural(content.melt, _MELTED, _SHARPNESS, local=False, also=True),
        "smear": _natural(
            content.smear, _MELTED, _SHARPNESS, pb.DEFECT_KIND_FLAT_FILL, local=False, also=True
        ),
        "warp": _natural(content.warp, pb.DEFECT_KIND_WARPED_GEOMETRY, local=False),
        "duplicate": _natural(
            content.duplicate, pb.DEFECT_KIND_DUPLICATED_PART, pb.DEFECT_KIND_TEXTURE_REPEAT
        ),
        "omit": _natural(content.omit, pb.DEFECT_KIND_MISSING_PART, _MELTED),
        "foreign": _natural(content.foreign, pb.DEFECT_KIND_FOREIGN_CONTENT, also=True),
        "flat": _natural(content.flat, pb.DEFECT_KIND_FLAT_FILL, also=True),
        "black": _natural(content.black, pb.DEFECT_KIND_BLACK_FILL, also=True),
        "unchanged": Injection(
            (pb.DEFECT_KIND_UNCHANGED,), pb.DIMENSION_UNSPECIFIED, False, failures.unchanged
        ),
        "leftover": Injection(
            (pb.DEFECT_KIND_LEFTOVER,), _NATURAL, False, failures.leftover, failures.has_structure
        ),
    }
)
"""Every injection by name."""
