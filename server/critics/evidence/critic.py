"""The measured critic: figures of the candidate against what the same photograph does elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.evidence.actions import suggest
from editcritic.server.critics.evidence.calibration import CALIBRATION
from editcritic.server.critics.evidence.families import measure
from editcritic.server.critics.evidence.finding import Finding
from editcritic.server.critics.evidence.scene import Scene, prepare_scene
from editcritic.server.critics.evidence.verdict import DIMENSION_OF, judge, reportable
from editcritic.server.critics.explain import describe_defect, summarise
from editcritic.server.critics.maps import heat_map
from editcritic.server.critics.views import mask_box
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["EvidenceCritic"]

VERSION = "1"
DEFAULT_MAX_DEFECTS = 16

_CHECKED = {
    pb.DEFECT_KIND_OUTSIDE_CHANGED: "the pixels outside the mask",
    pb.DEFECT_KIND_SEAM: "the steps at the mask's border",
    pb.DEFECT_KIND_COLOUR_SHIFT: "colour, tone and light across it",
    pb.DEFECT_KIND_SHARPNESS_MISMATCH: "sharpness and grain",
    pb.DEFECT_KIND_COMPRESSION_MISMATCH: "compression blocks",
    pb.DEFECT_KIND_TEXTURE_REPEAT: "repeated patches",
    pb.DEFECT_KIND_FLAT_FILL: "flat, black or unchanged areas",
    pb.DEFECT_KIND_LEFTOVER: "leftovers of the source",
}


class EvidenceCritic:
    """Measures a candidate without weights; works on any photograph and needs no calibration by labels."""

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, and what is judged."""
        return pb.CriticInfo(
            identity=_identity(),
            description=(
                "Measures what changed outside the mask, steps across its border, sharpness, grain and"
                " compression inside against outside, repeated patches, empty fills and leftovers. Every figure"
                " is compared with what the same photograph does elsewhere; no weights, no prompt."
            ),
            dimensions=[pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION],
            defect_kinds=sorted(DIMENSION_OF),
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
    ordered = sorted(findings, key=lambda finding: (-finding.severity, finding.kind))
    named = [finding for finding in ordered if reportable(finding, progress)]
    named = named[: task.options.max_defect_count or DEFAULT_MAX_DEFECTS]
    defects = [_defect(finding, scene) for finding in named]
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
        critique.heat_maps.extend(_maps(named, scene, task.options))
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


def _defect(finding: Finding, scene: Scene) -> pb.Defect:
    views = scene.views
    whole = mask_box(views.inside.astype(np.float32))
    box = finding.photo_box or views.to_source(finding.box or whole)
    mask_area = round(float(views.inside.sum()) / views.scale**2)
    return pb.Defect(
        kind=finding.kind,
        severity=finding.severity,
        box=box,
        evidence=finding.evidence,
        explanation=describe_defect(finding.kind, finding.place, finding.evidence, finding.severity),
        actions=suggest(finding.kind, box, mask_area),
        dimension=DIMENSION_OF[finding.kind],
    )


def _maps(named: Sequence[Finding], scene: Scene, options: pb.CritiqueOptions) -> list[pb.HeatMap]:
    region = scene.views.crop.to_box()
    joined = np.zeros(scene.views.inside.shape, np.float32)
    maps = []
    for finding in named:
        heat = finding.severity * (finding.heat if finding.heat is not None else scene.views.inside)
        joined = np.maximum(joined, heat)
        maps.append(heat_map(finding.kind, heat, region, options))
    return [heat_map(pb.DEFECT_KIND_UNSPECIFIED, joined, region, options), *maps]


def _checked(findings: Sequence[Finding]) -> list[str]:
    kinds = {finding.kind for finding in findings}
    return [words for kind, words in _CHECKED.items() if kind in kinds]


def _unjudged(scores: pb.Scores, progress: float | None) -> list[str]:
    parts = (scores.naturalness, scores.harmony, scores.preservation)
    sentences = list(dict.fromkeys(part.abstention_detail for part in parts if part.abstention_detail))
    if progress is not None:
        sentences.append(f"Judged as a preview after {100 * progress:.0f} % of the steps.")
    return sentences
