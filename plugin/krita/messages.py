"""Requests as JSON bodies, and what a critique says in a few words. The contract is `editcritic/v1/*.proto`."""

from __future__ import annotations

import base64
import json
from typing import Any, Dict, List, NamedTuple, Optional

from .rasters import base64_parts
from .settings import Settings

__all__ = [
    "EditPictures",
    "critique_body",
    "picture_of",
    "reason_of",
    "refine_body",
    "score_of",
    "summary_of",
    "with_files",
]

Json = Dict[str, Any]

_SOURCE, _MASK, _BLEND, _CANDIDATE = "%source%", "%mask%", "%blend%", "%candidate%"


class EditPictures(NamedTuple):
    """What an edit is about: PNG files of the crop before it and of the selection in it, and the words."""

    source: bytes
    mask: bytes
    prompt: str
    edit_id: str


def refine_body(edit: EditPictures, settings: Settings) -> List[bytes]:
    """The body of `RefineService.Refine`."""
    budget: Json = {"targetScore": settings.target_score, "repairRoundCount": settings.repair_rounds}
    if settings.time_limit_s:
        budget["timeMs"] = str(1000 * settings.time_limit_s)
    sampling: Json = {"candidateCount": settings.candidate_count}
    if settings.engine:
        sampling["engine"] = settings.engine
    if settings.seed >= 0:
        sampling["seed"] = str(settings.seed)
    request = {"edit": _edit(edit), "sampling": sampling, "budget": budget}
    return _joined(request, {_SOURCE: edit.source, _MASK: edit.mask})


def critique_body(
    edit: EditPictures, candidate_id: str, candidate: bytes, blend: bytes, heat_map: bool
) -> List[bytes]:
    """The body of `CriticService.Critique`.

    candidate: a picture file of the crop after the edit. blend: one of where the edit was laid over the picture.
    """
    judged = {**_edit(edit), "blendMask": {"encoded": {"data": _BLEND}}}
    request = {
        "edit": judged,
        "candidate": {"candidateId": candidate_id, "image": {"encoded": {"data": _CANDIDATE}}},
        "options": {"heatMap": heat_map, "heatMapMaxSide": 512},
    }
    files = {_SOURCE: edit.source, _MASK: edit.mask, _BLEND: blend, _CANDIDATE: candidate}
    return _joined(request, files)


def _edit(edit: EditPictures) -> Json:
    return {
        "editId": edit.edit_id,
        "source": {"encoded": {"data": _SOURCE}},
        "denoiseMask": {"encoded": {"data": _MASK}},
        "prompt": edit.prompt,
    }


def _joined(request: Json, files: Dict[str, bytes]) -> List[bytes]:
    """The JSON in parts, pictures put in where their marks stand, so that it is never one huge text."""
    # The prompt is the user's: it may hold a mark's very letters, so marks are found with their quotes and key.
    text, parts = json.dumps(request).encode(), []
    rest = text
    for mark, data in sorted(files.items(), key=lambda each: text.find(_marked(each[0]))):
        head, found, rest = rest.partition(_marked(mark))
        if not found:
            raise ValueError(f"no place for {mark}")
        parts += [head, b'{"data": "', *base64_parts(data), b'"}']
    return [*parts, rest]


def _marked(mark: str) -> bytes:
    return b'{"data": "' + mark.encode() + b'"}'


def picture_of(message: Optional[Json]) -> bytes:
    """The file's bytes of an `Image` message; empty when it has none."""
    encoded = (message or {}).get("encoded", {})
    return bytes(encoded["file"]) if "file" in encoded else base64.b64decode(encoded.get("data", ""))


def with_files(event: Json) -> Json:
    """An event whose pictures are bytes already, so that Krita's thread need not decode them."""
    for part in ("candidateFinished", "result"):
        image = event.get(part, {}).get("image")
        if image:
            image["encoded"] = {"file": picture_of(image)}
    return event


def score_of(critique: Optional[Json]) -> Optional[float]:
    """The overall score, 0 to 100; None when the critic abstained or was not asked."""
    overall = (critique or {}).get("scores", {}).get("overall", {})
    return float(overall["value"]) if overall.get("status") == "SCORE_STATUS_SCORED" else None


def reason_of(critique: Json) -> str:
    """One line for people: the gravest fault, why there is no score, or that nothing was found."""
    overall = critique.get("scores", {}).get("overall", {})
    if overall.get("status") == "SCORE_STATUS_ABSTAINED":
        return str(overall.get("abstentionDetail") or "the critic cannot judge this")
    defects = critique.get("defects", [])
    if defects:
        return str(defects[0].get("explanation", ""))
    return "no fault found"


_SCORES = (
    ("naturalness", "natural"),
    ("harmony", "harmony"),
    ("preservation", "preserved"),
    ("promptAlignment", "prompt"),
)


def summary_of(critique: Json) -> str:
    """Scores by dimension and every fault, a line each, for a tooltip."""
    scores = critique.get("scores", {})
    told = [
        f"{word} {scores[name]['value']:.0f}"
        for name, word in _SCORES
        if scores.get(name, {}).get("status") == "SCORE_STATUS_SCORED"
    ]
    faults = [
        f"{defect.get('severity', 0.0):.2f}  {defect.get('explanation', '')}"
        for defect in critique.get("defects", [])[:6]
    ]
    return "\n".join(([" · ".join(told)] if told else []) + (faults or ["no fault found"]))
