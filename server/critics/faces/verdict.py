"""From the figures of a face to its score, its defects, and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from editcritic.server.critics.actions import suggest
from editcritic.server.critics.faces.calibration import COLOUR_ALONE, COLOUR_BESIDE, SKIN, USUAL
from editcritic.server.critics.finding import MAX_Z, severity_of
from editcritic.server.critics.scoring import Abstention, abstained, scored
from editcritic.server.critics.views import Bounds
from editcritic.v1 import critic_pb2 as pb

__all__ = ["FaceCase", "face_defects", "face_view", "score_of", "side_words"]

_STDDEV = 0.2
"""Relative standard deviation of a strength between cuts of the same face."""
_LEAST_SCORE = 1.0
_UNITS = {"unlikeness": "index", "asymmetry": "ratio", "softness": "nepers", "grain": "nepers"}
_KINDS: Mapping[str, pb.DefectKind.ValueType] = {
    "face_unlikeness": pb.DEFECT_KIND_WARPED_GEOMETRY,
    "face_asymmetry": pb.DEFECT_KIND_WARPED_GEOMETRY,
    "face_softness": pb.DEFECT_KIND_SHARPNESS_MISMATCH,
    "face_grain": pb.DEFECT_KIND_NOISE_MISMATCH,
    "face_skin_colour": pb.DEFECT_KIND_COLOUR_SHIFT,
    "face_lost": pb.DEFECT_KIND_MISSING_PART,
}
_WORDS = {
    "face_unlikeness": "its features are less like a face's than they should be",
    "face_asymmetry": "its halves do not mirror each other",
    "face_softness": "it is softer than the head around it",
    "face_grain": "it is grainier than the head around it",
    "face_skin_colour": "its skin has another colour",
}
_GONE = "the source has one here, the edit has none"


@dataclass(frozen=True)
class FaceCase:
    """A face that the edit touches.

    Attributes:
        box: in the candidate, or in the source for a lost one.
        state: where it stands.
        figures: of the candidate's face; empty for a lost one.
        beside: figures of the source's face at that place, or else the medians of the photograph's other faces; None
            without any.
        keeps_identity: whether it is to stay the source's own.
    """

    box: Bounds
    state: pb.FaceState.ValueType
    figures: Mapping[str, float]
    beside: Mapping[str, float] | None
    keeps_identity: bool


def face_view(case: FaceCase, photo_width: int) -> pb.FaceView:
    """A face as a message."""
    measured = _measured(case)
    return pb.FaceView(
        box=case.box.to_box(),
        state=case.state,
        score=score_of(case),
        keeps_identity=case.keeps_identity,
        evidence=[figure for figure, _ in measured],
        explanation=_sentence(case, measured, photo_width),
    )


def score_of(case: FaceCase) -> pb.Score:
    """100 times what every figure leaves; none for a face that is gone."""
    if case.state == pb.FACE_STATE_LOST:
        return abstained(Abstention(pb.ABSTENTION_REASON_NOT_JUDGED, "The face is gone."))
    kept, doubt = 1.0, 0.0
    for _, strength in _measured(case):
        low, high = (severity_of(strength * (1 + sign * _STDDEV)) for sign in (-1, 1))
        left = max(1 - severity_of(strength), 1e-3)
        kept *= left
        doubt += ((high - low) / 2 / left) ** 2
    return scored(max(100 * kept, _LEAST_SCORE), 100 * kept * float(np.sqrt(doubt)) + 2.0)


def face_defects(case: FaceCase, photo_width: int, mask_area: int) -> list[pb.Defect]:
    """The figures over their thresholds, the gravest of each kind."""
    if case.state == pb.FACE_STATE_LOST:
        gone = pb.Measurement(name="face_lost", value=1.0, unit="fraction")
        return [_defect(case, gone, 2.0, photo_width, mask_area)]
    by_kind: dict[int, pb.Defect] = {}
    for figure, strength in _measured(case):
        if strength >= 1:
            defect = _defect(case, figure, strength, photo_width, mask_area)
            known = by_kind.get(defect.kind)
            if known is None or known.severity < defect.severity:
                by_kind[defect.kind] = defect
    return list(by_kind.values())


def side_words(box: Bounds, photo_width: int) -> str:
    """Where in the photograph: "at the left", "in the middle", "at the right"."""
    place = (box.x + box.width / 2) / photo_width
    return "at the left" if place < 1 / 3 else "at the right" if place > 2 / 3 else "in the middle"


def _measured(case: FaceCase) -> list[tuple[pb.Measurement, float]]:
    """Every figure with its strength: 1 at the threshold of a fault."""
    if not case.figures:
        return []
    found = []
    for name, usual in USUAL.items():
        reference = usual.middle if case.beside is None else case.beside[name]
        allowed = usual.alone if case.beside is None else usual.beside
        found.append(_against(f"face_{name}", case.figures[name], _UNITS[name], reference, allowed))
    return [*found, _skin(case)]


def _skin(case: FaceCase) -> tuple[pb.Measurement, float]:
    beside = SKIN if case.beside is None else _axes(case.beside)
    red, yellow = _axes(case.figures)
    away = float(np.hypot(red - beside[0], yellow - beside[1]))
    allowed = COLOUR_ALONE if case.beside is None else COLOUR_BESIDE
    return _against("face_skin_colour", away, "Lab units", 0.0, allowed)


def _axes(figures: Mapping[str, float]) -> tuple[float, float]:
    angle, chroma = np.radians(figures["skin_hue"]), figures["skin_chroma"]
    return float(chroma * np.cos(angle)), float(chroma * np.sin(angle))


def _against(
    name: str, value: float, unit: str, reference: float, allowed: float
) -> tuple[pb.Measurement, float]:
    """A figure with its z-score; the spread is a third of what is allowed, as thresholds stand at three spreads."""
    spread = allowed / 3
    z = float(np.clip((value - reference) / spread, -MAX_Z, MAX_Z))
    measured = pb.Measurement(
        name=name, value=value, unit=unit, reference=reference, spread=spread, z_score=z
    )
    return measured, max(0.0, (value - reference) / allowed)


def _defect(
    case: FaceCase, figure: pb.Measurement, strength: float, photo_width: int, mask_area: int
) -> pb.Defect:
    box, kind = case.box.to_box(), _KINDS[figure.name]
    said = _WORDS.get(figure.name, _GONE)
    severity = severity_of(strength)
    figures = "" if case.state == pb.FACE_STATE_LOST else f" ({_told(figure)})"
    where = side_words(case.box, photo_width)
    return pb.Defect(
        kind=kind,
        severity=severity,
        box=box,
        evidence=[figure],
        explanation=f"face {where}: {said}{figures} (severity {severity:.1f})",
        actions=_actions(case, kind, box, mask_area),
        dimension=pb.DIMENSION_NATURALNESS,
        subject=pb.SUBJECT_FACE,
    )


def _actions(
    case: FaceCase, kind: pb.DefectKind.ValueType, box: pb.Box, mask_area: int
) -> list[pb.SuggestedAction]:
    """What helps a face: the source's own where it is to stay, else the face alone once more."""
    face = pb.SUBJECT_FACE
    own = [pb.SuggestedAction(kind=pb.ACTION_KIND_RESTORE_REGION, region=box, subject=face)]
    again = [
        pb.SuggestedAction(kind=pb.ACTION_KIND_REINPAINT_REGION, strength=strength, region=box, subject=face)
        for strength in (0.3, 0.45)
    ]
    rest = [each for each in suggest(kind, box, mask_area) if each.kind == pb.ACTION_KIND_REROLL]
    return [*(own if case.keeps_identity else []), *again, *rest]


def _told(figure: pb.Measurement) -> str:
    name = figure.name.removeprefix("face_").replace("_", " ")
    return f"{name} {figure.value:.2f} where {figure.reference:.2f} is usual"


def _sentence(case: FaceCase, measured: Sequence[tuple[pb.Measurement, float]], photo_width: int) -> str:
    where = side_words(case.box, photo_width)
    if case.state == pb.FACE_STATE_LOST:
        return f"Face {where}: {_GONE}."
    score = score_of(case).value
    figure, strength = max(measured, key=lambda each: each[1])
    worst = f"; {_WORDS[figure.name]} ({_told(figure)})" if strength >= 1 else ""
    return f"Face {where}: {score:.0f} of 100{worst}."
