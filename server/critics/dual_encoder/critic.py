"""Prompt alignment by a dual encoder that the user has: which phrase of the prompt is missing, and where.

::

    editcritic serve --critics network,dual_encoder@openai/clip-vit-large-patch14
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome, judge_each
from editcritic.server.critics.dual_encoder.encoder import DualEncoder, Encoder
from editcritic.server.critics.dual_encoder.phrases import asks_for_nothing, split_phrases
from editcritic.server.critics.dual_encoder.reading import (
    AskedPhrases,
    PhraseReading,
    ask,
    read_phrases,
    support_map,
)
from editcritic.server.critics.explain import summarise
from editcritic.server.critics.finding import Finding, figure, strength_of
from editcritic.server.critics.reporting import Frame, make_defect, make_maps
from editcritic.server.critics.scoring import Abstention, abstained, make_scores, scored
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.server.critics.views import Bounds, mask_box
from editcritic.v1 import critic_pb2 as pb

__all__ = ["DualEncoderCritic", "PreparedPrompt", "open_dual_encoder"]

VERSION = "1"
JUDGED_FROM = 0.2
"""Before this share of the steps a preview shows no thing."""
_MISSING_BELOW = 0.5
_MARGIN_SHARE = 0.1
_MARGIN_SPREAD = 0.7
"""Standard deviation of a margin: what another wording of the same phrase moves it by, of the order of one half."""
_LOOKS = (pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION)


@dataclass(frozen=True, eq=False)
class PreparedPrompt:
    """A prompt, encoded once for all candidates.

    Attributes:
        asked: its phrases; None when there is nothing to compare with.
        why_not: why there is nothing.
        crop: the part of the photograph that is compared: the mask's box and a little around it.
        inside: (h, w) bool; the mask in it.
    """

    asked: AskedPhrases | None
    why_not: Abstention | None
    crop: Bounds
    inside: NDArray[np.bool_]


class DualEncoderCritic:
    """Judges prompt alignment only; abstains from everything else.

    The inside is cut at native resolution and compared with every phrase of the prompt; a phrase counts by how
    many spreads it lies above captions of unrelated things, so that no scale of the model's own matters. The
    score is that of the weakest phrase.

    Args:
        encoder: makes points of pictures and of texts.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, and what is judged."""
        return pb.CriticInfo(
            identity=self._identity(),
            description=(
                f"Compares the inside with every phrase of the prompt in the space of {self._encoder.name}"
                f" ({self._encoder.model_type}); tells which phrase is missing, and where."
            ),
            dimensions=[pb.DIMENSION_PROMPT_ALIGNMENT],
            defect_kinds=[pb.DEFECT_KIND_PROMPT_MISMATCH],
            judges_previews=True,
            device=str(self._encoder.device),
        )

    def prepare(self, edit: DecodedEdit) -> PreparedPrompt:
        """Split and encode the prompt; find the crop."""
        phrases = split_phrases(edit.prompt)
        crop = _around(mask_box(edit.denoise_mask), edit.denoise_mask.shape)
        return PreparedPrompt(
            ask(self._encoder, phrases, edit.prompt) if phrases else None,
            None if phrases else _why_not(edit.prompt),
            crop,
            np.asarray(edit.denoise_mask[crop.slices] >= 0.5),
        )

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task; each is judged alone."""
        return judge_each(tasks, self._judge, is_cancelled)

    def _judge(self, task: CritiqueTask) -> pb.Critique:
        start = time.perf_counter()
        prepared: PreparedPrompt = task.prepared
        why_not = prepared.why_not or _too_early(task)
        if prepared.asked is None or why_not is not None:
            critique = self._write(task, prepared, abstained(why_not or _why_not("")), [])
        else:
            critique = self._read(task, prepared, prepared.asked)
        critique.timings.critique_ms = 1000 * (time.perf_counter() - start)
        return critique

    def _read(self, task: CritiqueTask, prepared: PreparedPrompt, asked: AskedPhrases) -> pb.Critique:
        picture = _squared(task.candidate.image[prepared.crop.slices])
        point = self._encoder.pictures([picture])
        readings = read_phrases(asked, point)
        weakest = min(readings, key=lambda reading: reading.margin)
        spread = (
            100 * _MARGIN_SPREAD * float(norm.pdf(norm.ppf(np.clip(weakest.probability, 1e-4, 1 - 1e-4))))
        )
        findings = [
            _finding(reading)
            for reading in readings
            if reading.probability < _MISSING_BELOW and (len(readings) == 1 or reading is not readings[-1])
        ]
        if findings and task.options.heat_map:
            place = asked.phrases.index(weakest.phrase)
            support = support_map(self._encoder, picture, point, asked.points[place : place + 1])
            height, width = prepared.inside.shape
            shown = 1 - weakest.probability * support[:height, :width]
            findings = [_with_heat(each, np.where(prepared.inside, shown, 0)) for each in findings]
        critique = self._write(task, prepared, scored(100 * weakest.probability, spread), findings)
        critique.measurements.extend(
            figure(f"phrase: {reading.phrase}", reading.probability, "fraction") for reading in readings
        )
        return critique

    def _write(
        self, task: CritiqueTask, prepared: PreparedPrompt, score: pb.Score, findings: Sequence[Finding]
    ) -> pb.Critique:
        frame = Frame(prepared.crop, 1.0, _shape(task.edit.denoise_mask), prepared.inside)
        worst = sorted(findings, key=lambda finding: -finding.strength)
        defects = [make_defect(finding, frame) for finding in worst[:1]]
        not_judged = Abstention(
            pb.ABSTENTION_REASON_NOT_JUDGED, "A dual encoder compares with the prompt only."
        )
        unjudged = [score.abstention_detail] if score.status != pb.SCORE_STATUS_SCORED else []
        checked = [] if unjudged else ["all phrases of the prompt"]
        critique = pb.Critique(
            candidate_id=task.candidate.candidate_id,
            critic=self._identity(),
            scores=make_scores(dict.fromkeys(_LOOKS, abstained(not_judged)), 1.0, score),
            defects=defects,
            explanation=summarise(defects, checked, unjudged),
        )
        if task.options.heat_map and worst:
            critique.heat_maps.extend(make_maps(worst[:1], frame, task.options))
        if task.candidate.progress is not None:
            critique.progress.CopyFrom(task.candidate.progress)
        return critique

    def _identity(self) -> pb.CriticIdentity:
        return pb.CriticIdentity(
            name="dual_encoder",
            version=VERSION,
            calibration=f"{self._encoder.name}, unrelated captions",
            score_meaning=(
                "Probability in per cent that the weakest phrase of the prompt is seen: the normal distribution at"
                " its likeness above captions of unrelated things, in their spreads, less two."
            ),
        )


def open_dual_encoder(weights: str, options: LoadOptions = AS_IT_IS) -> DualEncoderCritic:
    """The critic with a model of a folder, or of a hub by its id; see `DualEncoder` for what it raises."""
    return DualEncoderCritic(DualEncoder(weights, options))


def _finding(reading: PhraseReading) -> Finding:
    severity = 0.3 + 0.7 * (1 - reading.probability / _MISSING_BELOW)
    evidence = [
        figure("phrase_probability", reading.probability, "fraction"),
        figure("phrase_margin", reading.margin, "spreads"),
    ]
    return Finding(
        pb.DEFECT_KIND_PROMPT_MISMATCH, strength_of(severity), evidence, place=f"({reading.phrase!r} asked)"
    )


def _with_heat(finding: Finding, heat: NDArray[np.floating]) -> Finding:
    return Finding(
        finding.kind, finding.strength, finding.evidence, np.asarray(heat, np.float32), finding.place
    )


def _why_not(prompt: str) -> Abstention:
    if asks_for_nothing(prompt):
        return Abstention(
            pb.ABSTENTION_REASON_NO_PROMPT,
            "The prompt asks for something to go; no text says what should be seen.",
        )
    return Abstention(pb.ABSTENTION_REASON_NO_PROMPT, "There is no prompt to compare with.")


def _too_early(task: CritiqueTask) -> Abstention | None:
    progress = task.candidate.progress
    if progress is None or progress.fraction >= JUDGED_FROM:
        return None
    return Abstention(
        pb.ABSTENTION_REASON_TOO_EARLY,
        f"After {100 * progress.fraction:.0f} % of the steps too little shows.",
    )


def _around(box: Bounds, shape: tuple[int, ...]) -> Bounds:
    grow = round(_MARGIN_SHARE * max(box.width, box.height)) + 1
    left, top = max(0, box.x - grow), max(0, box.y - grow)
    right = min(shape[1], box.x + box.width + grow)
    bottom = min(shape[0], box.y + box.height + grow)
    return Bounds(left, top, right - left, bottom - top)


def _squared(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The crop at the upper left of a square, mirrored into what is missing: encoders cut what is not square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    # BORDER_REFLECT repeats as often as a thin crop needs it to.
    padded = cv2.copyMakeBorder(picture, 0, side - height, 0, side - width, cv2.BORDER_REFLECT)
    return np.asarray(padded, np.uint8)


def _shape(mask: NDArray[np.floating]) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]
