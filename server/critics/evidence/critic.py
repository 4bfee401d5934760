"""The measured critic: figures of the candidate against what the same photograph does elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.evidence.calibration import CALIBRATION
from editcritic.server.critics.evidence.families import measure
from editcritic.server.critics.evidence.scene import Scene, prepare_scene
from editcritic.server.critics.evidence.verdict import judge, reportable
from editcritic.server.critics.explain import summarise
from editcritic.server.critics.finding import Finding
from editcritic.server.critics.reporting import Frame, make_defect, make_maps, worst_first
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["EvidenceCritic"]

VERSION = "1"

_CHECKED = {
    pb.DEFECT_KIND_OUTSIDE_CHANGED: "the pixels outside the mask",
    pb.DEFECT_KIND_SEAM: "the steps at the mask's border",
    pb.DEFECT_KIND_COLOUR_SHIFT: "colour, tone and light across it",
    pb.DEFECT_KIND_SHARPNESS_MISMATCH: "sharpness and grain",
    pb.DEFECT_KIND_COMPRESSION_MISMATCH: "compression blocks",
    pb.DEFECT_KIND_BANDING: "bands of tone",
    pb.DEFECT_KIND_TEXTURE_REPEAT: "repeated patches",
    pb.DEFECT_KIND_FLAT_FILL: "flat, black or unchanged areas",
    pb.DEFECT_KIND_LEFTOVER: "leftovers of the source",
}
_ALSO = (
    pb.DEFECT_KIND_TONE_SHIFT,
    pb.DEFECT_KIND_LIGHT_MISMATCH,
    pb.DEFECT_KIND_NOISE_MISMATCH,
    pb.DEFECT_KIND_BLACK_FILL,
    pb.DEFECT_KIND_UNCHANGED,
)
"""Kinds that are looked for in the same step as one of those."""


class EvidenceCritic:
    """Measures a candidate without weights; works on any photograph and needs no calibration by labels."""

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, and what is judged."""
        return pb.CriticInfo(
            identity=_identity(),
            description=(
                "Measures what changed outside the mask, steps across its border, sharpness, grain and"
                " compression inside against outside, bands of tone, repeated patches, empty fills and leftovers. Every"
                " figure is compared with what the same photograph does elsewhere; no weights, no prompt."
            ),
            dimensions=[pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION],
            defect_kinds=[*sorted(_CHECKED), *_ALSO],
            judges_previews=True,
            device="cpu",
        )

    def prepare(self, edit: DecodedEdit) -> Scene:
        """Crop, regions and references of an edit."""
        return prepare_scene(edit)

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task; each is judged alone, so a batch changes nothing."""
        return [_outcome(task, is_cancelled) for task in tasks]


def _outcome(task: CritiqueTask, is_cancelled: Callable[[], bool]) -> Outcome:
    start = time.perf_counter()
    try:
        findings = measure(task.prepared, task.edit, task.candidate.image, is_cancelled)
    except EditCriticError as error:
        return error
    critique = _critique(task, task.prepared, findings)
    critique.timings.critique_ms = 1000 * (time.perf_counter() - start)
    return critique


def _critique(task: CritiqueTask, scene: Scene, findings: Sequence[Finding]) -> pb.Critique:
    progress = task.candidate.progress.fraction if task.candidate.progress is not None else None
    frame = _frame(scene)
    told = [finding for finding in findings if reportable(finding, progress)]
    named = worst_first(told, task.options.max_defect_count)
    defects = [make_defect(finding, frame) for finding in named]
    scores = judge(scene, findings, progress)
    critique = pb.Critique(
        candidate_id=task.candidate.candidate_id,
        critic=_identity(),
        scores=scores,
        defects=defects,
        explanation=summarise(defects, _checked(findings), _unjudged(scores, progress)),
        measurements=[measured for finding in findings for measured in finding.evidence],
    )
    if task.options.heat_map:
        critique.heat_maps.extend(make_maps(named, frame, task.options))
    if task.candidate.progress is not None:
        critique.progress.CopyFrom(task.candidate.progress)
    return critique


def _identity() -> pb.CriticIdentity:
    return pb.CriticIdentity(
        name="evidence",
        version=VERSION,
        calibration=CALIBRATION,
        score_meaning=(
            "100 when no figure stands out from what the same photograph does elsewhere; every fault takes"
            " the share of its severity (0.3 at the threshold from which it is named)."
        ),
    )


def _frame(scene: Scene) -> Frame:
    views = scene.views
    return Frame(views.crop, views.scale, views.photo_shape, views.inside)


def _checked(findings: Sequence[Finding]) -> list[str]:
    kinds = {finding.kind for finding in findings}
    return [words for kind, words in _CHECKED.items() if kind in kinds]


def _unjudged(scores: pb.Scores, progress: float | None) -> list[str]:
    parts = (scores.naturalness, scores.harmony, scores.preservation)
    sentences = list(dict.fromkeys(part.abstention_detail for part in parts if part.abstention_detail))
    if progress is not None:
        sentences.append(f"Judged as a preview after {100 * progress:.0f} % of the steps.")
    return sentences
