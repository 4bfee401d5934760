"""What a model claims to see, read strictly, and held against what was measured.

A model that names faults finds some where there are none; a claim becomes a defect only where the measured maps
show something too. Everything else stays the model's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from editcritic.server.critics.explain import KIND_WORDS
from editcritic.server.critics.finding import AT_THRESHOLD, DIMENSION_OF, figure
from editcritic.server.critics.multimodal.questions import CLAIMED_KINDS
from editcritic.server.critics.views import Bounds
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ServerFault
from editcritic.v1.images import decode_mask_file

__all__ = ["Claim", "as_defect", "read_claims", "support_of", "unsupported_words"]

_MOST_CLAIMS = 16
_MOST_CHARS = 200
_SCALE = 1000
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")
_NAMES = {pb.DefectKind.Name(kind).removeprefix("DEFECT_KIND_"): kind for kind in CLAIMED_KINDS}


@dataclass(frozen=True)
class Claim:
    """One fault that a model says it sees.

    Attributes:
        kind: what.
        box: where, in pixels of the source.
        why: in the model's words; printable, at most 200 characters.
    """

    kind: pb.DefectKind.ValueType
    box: pb.Box
    why: str


def read_claims(answer: str, crop: Bounds) -> list[Claim]:
    """The claims of an answer.

    Args:
        answer: the model's text; JSON, with or without a fence around it.
        crop: the part of the source that picture 2 showed.

    Raises:
        ServerFault: it is anything else; nothing is guessed from it.
    """
    try:
        told = json.loads(_FENCE.sub("", answer.strip()))
        if not isinstance(told, dict) or set(told) != {"faults"} or not isinstance(told["faults"], list):
            raise ValueError("expected one object with the list 'faults'")
        return [_read_claim(each, crop) for each in told["faults"][:_MOST_CLAIMS]]
    except (ValueError, RecursionError) as error:
        raise ServerFault(f"the model's answer is no list of faults: {error}") from error


def _read_claim(told: Any, crop: Bounds) -> Claim:
    if not isinstance(told, dict) or set(told) != {"kind", "box", "why"}:
        raise ValueError("a fault needs exactly kind, box and why")
    kind, why = told["kind"], told["why"]
    if not isinstance(kind, str) or kind not in _NAMES:
        raise ValueError(f"there is no kind {str(kind)[:40]!r}")
    if not isinstance(why, str):
        raise ValueError("why has to be words")
    printable = "".join(letter if letter.isprintable() else " " for letter in why)
    return Claim(_NAMES[kind], _read_box(told["box"], crop), " ".join(printable.split())[:_MOST_CHARS])


def _read_box(told: Any, crop: Bounds) -> pb.Box:
    if (
        not isinstance(told, list)
        or len(told) != 4
        or not all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in told)
        or not all(0 <= edge <= _SCALE for edge in told)
    ):
        raise ValueError("a box has four edges from 0 to 1000")
    left, top, right, bottom = told
    if right <= left or bottom <= top:
        raise ValueError("a box needs its right beyond its left, and its bottom below its top")
    x0, y0 = int(left / _SCALE * crop.width), int(top / _SCALE * crop.height)
    x1 = max(x0 + 1, min(crop.width, round(right / _SCALE * crop.width)))
    y1 = max(y0 + 1, min(crop.height, round(bottom / _SCALE * crop.height)))
    x0, y0 = min(x0, crop.width - 1), min(y0, crop.height - 1)
    return pb.Box(
        x=crop.x + x0, y=crop.y + y0, width=min(x1, crop.width) - x0, height=min(y1, crop.height) - y0
    )


def support_of(claim: Claim, measured: pb.Critique) -> float:
    """The strongest measured severity in the claimed box, in [0, 1]."""
    if not measured.heat_maps:
        return 0.0
    joined = measured.heat_maps[0]
    region = joined.region
    heat = cv2.resize(
        decode_mask_file(joined.image.encoded.data),
        (region.width, region.height),
        interpolation=cv2.INTER_LINEAR,
    )
    top, left = claim.box.y - region.y, claim.box.x - region.x
    part = heat[max(0, top) : top + claim.box.height, max(0, left) : left + claim.box.width]
    return float(np.clip(part.max(), 0, 1)) if part.size else 0.0


def as_defect(claim: Claim, support: float, actions: Sequence[pb.SuggestedAction]) -> pb.Defect | None:
    """The claim as a defect of the measured severity; None where nothing was measured."""
    if support < AT_THRESHOLD:
        return None
    words = f"{KIND_WORDS[claim.kind]}, in the model's words: “{claim.why}” (severity {support:.1f} measured there)"
    return pb.Defect(
        kind=claim.kind,
        severity=support,
        box=claim.box,
        evidence=[figure("measured_support", support, "fraction")],
        explanation=words,
        actions=actions,
        dimension=DIMENSION_OF[claim.kind],
    )


def unsupported_words(claim: Claim) -> str:
    """What is said of a claim that no measurement supports."""
    return f"Unsupported by measurement, in the model's words: {KIND_WORDS[claim.kind]}, “{claim.why}”."
