"""Any critic, and beside it every face that the edit touches, judged by itself on a crop of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import Critic, CritiqueTask, DecodedEdit, Outcome, check_cancelled
from editcritic.server.critics.faces.calibration import CALIBRATION
from editcritic.server.critics.faces.detection import Face, FaceDetector, open_detector, overlap
from editcritic.server.critics.faces.figures import FIGURES, measure_face
from editcritic.server.critics.faces.region import FaceRegion, region_of
from editcritic.server.critics.faces.verdict import FaceCase, face_defects, face_view
from editcritic.server.critics.faces.wishes import asks_for_face
from editcritic.server.critics.reporting import DEFAULT_MAX_DEFECTS
from editcritic.server.critics.scoring import scored
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.server.critics.views import Bounds
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["FacesCritic", "PreparedFaces", "open_faces"]

VERSION = "1"
JUDGED_FROM = 0.6
"""Share of the steps before which a preview's faces are a blur."""
_SAME_FACE = 0.2
"""Overlap from which a face of the candidate is the source's."""
_LOST_FROM = 0.8
"""Confidence from which a face of the source is missed: below it may be corn."""
_STILL_A_FACE = 0.3
"""Likeness from which a place is a spoilt face, not something else."""
_PART = 0.6
"""Share of a face that the mask covers up to which an empty prompt cannot mean its removal."""
_LOST_SHARE = 0.5
"""What a lost face takes from the scores."""
_LOWERED = ("naturalness", "visual_quality", "overall")


@dataclass(frozen=True, eq=False)
class PreparedFaces:
    """An edit, prepared.

    Attributes:
        inner: what the wrapped critic prepared.
        region: the part of the photograph in which the edit may touch faces.
        touched: faces of the source that the mask covers in part, boxes in pixels of the source.
        figures: of each of these.
        others: medians over the faces near the edit that it does not touch; None without any.
    """

    inner: Any
    region: FaceRegion
    touched: Sequence[Face]
    figures: Sequence[Mapping[str, float]]
    others: Mapping[str, float] | None


class FacesCritic:
    """A critic with eyes for faces: those in the edited region get a view, a score and defects of their own.

    A face below 100 takes its share of naturalness, visual quality and overall; without a face in the region the
    inner critic's answer stays as it is.

    Args:
        inner: the critic of everything else.
        detector: finds faces; by default the one that ships.
    """

    def __init__(self, inner: Critic, detector: FaceDetector | None = None) -> None:
        self._inner, self._detector = inner, detector or open_detector()

    @property
    def info(self) -> pb.CriticInfo:
        """The inner critic's, with a name and a version of its own."""
        inner = self._inner.info
        info = pb.CriticInfo()
        info.CopyFrom(inner)
        info.identity.CopyFrom(self._identity(inner.identity))
        info.description += " Faces in the edited region are judged by themselves."
        added = (
            pb.DEFECT_KIND_WARPED_GEOMETRY, pb.DEFECT_KIND_SHARPNESS_MISMATCH, pb.DEFECT_KIND_NOISE_MISMATCH,
            pb.DEFECT_KIND_COLOUR_SHIFT, pb.DEFECT_KIND_MISSING_PART,
        )  # fmt: skip
        info.defect_kinds[:] = sorted({*inner.defect_kinds, *added})
        info.dimensions[:] = sorted({*inner.dimensions, pb.DIMENSION_NATURALNESS})
        return info

    def prepare(self, edit: DecodedEdit) -> PreparedFaces:
        """What the inner critic prepares, and the source's faces in and near the region."""
        region = region_of(edit)
        faces = region.find(self._detector, edit.source)
        touched = [face for face in faces if region.covered(face.box) > 0]
        others = [measure_face(edit.source, face.box) for face in faces if region.covered(face.box) == 0]
        medians = {name: float(np.median([each[name] for each in others])) for name in FIGURES if others}
        figures = [measure_face(edit.source, face.box) for face in touched]
        return PreparedFaces(self._inner.prepare(edit), region, touched, figures, medians or None)

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """The inner critic's outcome for each task, with what is to be said of its faces."""
        own = [CritiqueTask(each.edit, each.prepared.inner, each.candidate, each.options) for each in tasks]
        outcomes = self._inner.critique(own, is_cancelled)
        return [
            self._with_faces(task, outcome, is_cancelled)
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]

    def _with_faces(self, task: CritiqueTask, outcome: Outcome, is_cancelled: Callable[[], bool]) -> Outcome:
        if not isinstance(outcome, pb.Critique):
            return outcome
        outcome.critic.CopyFrom(self._identity(outcome.critic))
        progress = task.candidate.progress
        if progress is not None and progress.fraction < JUDGED_FROM:
            return outcome
        start = time.perf_counter()
        try:
            check_cancelled(is_cancelled)
            cases = self._cases(task)
        except EditCriticError as error:
            return error
        _add(outcome, cases, task)
        outcome.timings.critique_ms += 1000 * (time.perf_counter() - start)
        return outcome

    def _cases(self, task: CritiqueTask) -> list[FaceCase]:
        """Every face that the edit touches, from left to right."""
        prepared: PreparedFaces = task.prepared
        image, region = task.candidate.image, prepared.region
        found = region.find(self._detector, image)
        now = [face for face in found if region.covered(face.box) > 0]
        cases, left = [], list(range(len(prepared.touched)))
        for face in now:
            at = next((i for i in left if overlap(prepared.touched[i].box, face.box) > _SAME_FACE), None)
            if at is not None:
                left.remove(at)
            cases.append(_standing(task, face, at))
        cases += [case for at in left if (case := _overlooked(task, at)) is not None]
        return sorted(cases, key=lambda case: case.box.x)

    def _identity(self, inner: pb.CriticIdentity) -> pb.CriticIdentity:
        return pb.CriticIdentity(
            name="faces",
            version=f"{VERSION}+{self._detector.name}+{inner.name}-{inner.version}",
            calibration="+".join(each for each in (inner.calibration, CALIBRATION) if each),
            score_meaning=f"{inner.score_meaning} A face that is badly drawn takes its share of it.",
        )


def open_faces(critic: str, options: LoadOptions = AS_IT_IS) -> FacesCritic:
    """A critic of the registry, by its full name, with eyes for faces.

    Raises:
        EditCriticError: the critic cannot be loaded, or the detector's file cannot be used.
    """
    from editcritic.server.critics import load_critic

    detector = open_detector(options.detector)
    return FacesCritic(load_critic(critic), detector)


def _standing(task: CritiqueTask, face: Face, at: int | None) -> FaceCase:
    """A face of the candidate; at: which of the source's it is."""
    prepared: PreparedFaces = task.prepared
    figures = measure_face(task.candidate.image, face.box)
    if at is None:
        return FaceCase(face.box, pb.FACE_STATE_NEW, figures, prepared.others, False)
    keeps = not asks_for_face(task.edit.prompt)
    return FaceCase(face.box, pb.FACE_STATE_REDRAWN, figures, prepared.figures[at], keeps)


def _overlooked(task: CritiqueTask, at: int) -> FaceCase | None:
    """A face of the source in whose place the detector finds none: spoilt, lost, or taken out as was asked.

    What still is much like a face is a spoilt one. Else it is missed when the prompt speaks of a face, or when the mask
    covers but a part of it.
    """
    prepared: PreparedFaces = task.prepared
    face = prepared.touched[at]
    if face.confidence < _LOST_FROM or _unchanged(task, face.box):
        return None
    if -measure_face(task.candidate.image, face.box)["unlikeness"] >= _STILL_A_FACE:
        return _standing(task, face, at)
    wanted = asks_for_face(task.edit.prompt)
    if not wanted and prepared.region.covered(face.box) > _PART:
        return None
    return FaceCase(face.box, pb.FACE_STATE_LOST, {}, None, keeps_identity=not wanted)


def _unchanged(task: CritiqueTask, box: Bounds) -> bool:
    """Whether the edit left the place as it was: then the detector is at fault."""
    before: NDArray[np.uint8] = task.edit.source[box.slices]
    after: NDArray[np.uint8] = task.candidate.image[box.slices]
    return float(np.abs(before.astype(np.int16) - after).mean()) < 4.0


def _add(critique: pb.Critique, cases: Sequence[FaceCase], task: CritiqueTask) -> None:
    """Faces, defects, words and lower scores."""
    width = task.edit.source.shape[1]
    area = int((task.edit.denoise_mask > 0.5).sum())
    told = [defect for case in cases for defect in face_defects(case, width, area)]
    critique.faces.extend(face_view(case, width) for case in cases)
    if told:
        limit = task.options.max_defect_count or DEFAULT_MAX_DEFECTS
        ordered = sorted([*critique.defects, *told], key=lambda each: (-each.severity, each.kind))
        del critique.defects[:]
        critique.defects.extend(ordered[:limit])
    if critique.faces:
        words = [critique.explanation, *(face.explanation for face in critique.faces)]
        critique.explanation = " ".join(each for each in words if each)
        _lower(critique)


def _lower(critique: pb.Critique) -> None:
    """The worst face's share of the scores: one spoilt face is not averaged away by others."""
    shares = [
        (1 - _LOST_SHARE, 0.1) if face.state == pb.FACE_STATE_LOST
        else (face.score.value / 100, face.score.stddev / 100)
        for face in critique.faces
    ]  # fmt: skip
    share, doubt = min(shares)
    for name in _LOWERED:
        score = getattr(critique.scores, name)
        if score.status == pb.SCORE_STATUS_SCORED:
            spread = float(np.hypot(score.stddev * share, score.value * doubt))
            score.CopyFrom(scored(score.value * share, spread))
