"""A large multimodal model as a critic: three views, five words, one forward pass per score, claims that are checked.

::

    editcritic serve --critics network,multimodal@Qwen/Qwen2.5-VL-7B-Instruct
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from editcritic.server.critics.actions import suggest
from editcritic.server.critics.base import (
    Critic,
    CritiqueTask,
    DecodedCandidate,
    DecodedEdit,
    Outcome,
    check_cancelled,
    judge_each,
)
from editcritic.server.critics.evidence import EvidenceCritic
from editcritic.server.critics.evidence.fill import happened_share
from editcritic.server.critics.explain import summarise
from editcritic.server.critics.multimodal.claims import (
    Claim,
    as_defect,
    read_claims,
    support_of,
    unsupported_words,
)
from editcritic.server.critics.multimodal.head import (
    HEAD_FILE,
    HEAD_QUESTION,
    HeadReading,
    QualityHead,
    load_head,
    network_features,
    read_head,
)
from editcritic.server.critics.multimodal.levels import LEVELS, LevelDistribution
from editcritic.server.critics.multimodal.model import MultimodalModel, open_model
from editcritic.server.critics.multimodal.questions import (
    BEGIN,
    CLAIMED_KINDS,
    fault_question,
    rating_question,
)
from editcritic.server.critics.multimodal.showing import Showing, show, show_candidate
from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.server.critics.network.runner import NetworkRunner, load_network
from editcritic.server.critics.reporting import DEFAULT_MAX_DEFECTS
from editcritic.server.critics.scoring import Abstention, abstained, make_scores, scored
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["MultimodalCritic", "PreparedShowing", "open_multimodal"]

VERSION = "1"
JUDGED_FROM = 0.6
"""Before this share of the steps a preview has no texture, and a model calls it bad."""
ANSWER_TOKENS = 768
_MEASURED = frozenset({pb.DEFECT_KIND_OUTSIDE_CHANGED, pb.DEFECT_KIND_UNCHANGED})
_RATED = (pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY)


@dataclass(frozen=True, eq=False)
class PreparedShowing:
    """An edit, cut once for all candidates: for the model, and for the critic that measures."""

    showing: Showing
    measured: Any


class MultimodalCritic:
    """Naturalness, harmony and prompt alignment from a model; what pixels tell exactly is measured.

    Every score is the expectation over five words of one forward pass: nothing is sampled, and a candidate never
    meets another. With `heat_map` the model is also asked for faults, and each claim is held against the measured
    maps; an answer that cannot be read is an error of that item.

    Args:
        model: that is asked.
        measuring: the critic that measures; `evidence` by default.
        head: trained on the model's hidden states; its visual quality then stands for naturalness, and its prompt
            alignment for that of the words.

    Raises:
        InvalidInput: the model cannot tell the five words apart.
    """

    def __init__(
        self, model: MultimodalModel, measuring: Critic | None = None, head: QualityHead | None = None
    ) -> None:
        model.first_tokens(LEVELS)
        self._model, self._measuring, self._head = model, measuring or EvidenceCritic(), head
        self._network = (
            NetworkRunner(load_network(WEIGHTS / "network.safetensors")) if head and head.features else None
        )

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, and what is judged."""
        return pb.CriticInfo(
            identity=self._identity(),
            description=(
                f"Asks {self._model.name} ({self._model.model_type}) about the region before, after and outlined,"
                " at native resolution; what changed outside and whether anything changed is measured; claims of"
                " the model that no measurement supports are told as unsupported."
            ),
            dimensions=[*_RATED, pb.DIMENSION_PRESERVATION, pb.DIMENSION_PROMPT_ALIGNMENT],
            defect_kinds=sorted({*CLAIMED_KINDS, *_MEASURED}),
            judges_previews=True,
            device=str(self._model.device),
        )

    def prepare(self, edit: DecodedEdit) -> PreparedShowing:
        """Cut what the model is shown of the source."""
        return PreparedShowing(show(edit), self._measuring.prepare(edit))

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task; each is judged alone, and cancelled between questions."""
        return judge_each(tasks, lambda task: self._judge(task, is_cancelled), is_cancelled)

    def _judge(self, task: CritiqueTask, is_cancelled: Callable[[], bool]) -> pb.Critique:
        start = time.perf_counter()
        measured = self._measure(task, is_cancelled)
        pictures = show_candidate(task.prepared.showing, task.candidate.image)
        scores = self._rate(task, pictures, measured, is_cancelled)
        claims: list[Claim] = []
        if task.options.heat_map and _why_not(task.candidate) is None:
            check_cancelled(is_cancelled)
            answer = self._model.write(pictures, fault_question(), ANSWER_TOKENS)
            claims = read_claims(answer, task.prepared.showing.crop)
        critique = self._write(task, scores, claims, measured)
        critique.timings.critique_ms = 1000 * (time.perf_counter() - start)
        return critique

    def _measure(self, task: CritiqueTask, is_cancelled: Callable[[], bool]) -> pb.Critique:
        check_cancelled(is_cancelled)
        own = CritiqueTask(task.edit, task.prepared.measured, task.candidate, task.options)
        (outcome,) = self._measuring.critique([own], is_cancelled)
        if isinstance(outcome, EditCriticError):
            raise outcome
        return outcome

    def _rate(
        self,
        task: CritiqueTask,
        pictures: Sequence[Any],
        measured: pb.Critique,
        is_cancelled: Callable[[], bool],
    ) -> pb.Scores:
        def rated(dimension: pb.Dimension.ValueType) -> pb.Score:
            why = _why_not(task.candidate)
            if why is not None:
                return abstained(why)
            check_cancelled(is_cancelled)
            if dimension in by_head:
                return scored(by_head[dimension].value, by_head[dimension].stddev)
            question = rating_question(dimension, self._model.plain(task.edit.prompt))
            levels = LevelDistribution(self._model.word_probabilities(pictures, question, LEVELS, BEGIN))
            return scored(levels.value, levels.stddev)

        by_head = self._read_head(task, pictures) if _why_not(task.candidate) is None else {}
        dimensions = {dimension: rated(dimension) for dimension in _RATED}
        dimensions[pb.DIMENSION_PRESERVATION] = measured.scores.preservation
        if measured.scores.harmony.abstention_reason == pb.ABSTENTION_REASON_NO_REFERENCE:
            dimensions[pb.DIMENSION_HARMONY] = measured.scores.harmony
        nothing_asked = Abstention(pb.ABSTENTION_REASON_NO_PROMPT, "There is no prompt to compare with.")
        asked = bool(task.edit.prompt.strip())
        alignment = rated(pb.DIMENSION_PROMPT_ALIGNMENT) if asked else abstained(nothing_asked)
        return make_scores(dimensions, _happened(measured), alignment)

    def _read_head(
        self, task: CritiqueTask, pictures: Sequence[Any]
    ) -> dict[pb.Dimension.ValueType, HeadReading]:
        if self._head is None:
            return {}
        prompt = self._model.plain(task.edit.prompt) or "(nothing was said)"
        states, seen = self._model.hidden_states(pictures[:3], HEAD_QUESTION.replace("{prompt}", prompt))
        features = None
        if self._network is not None:
            features = network_features(self._network, task.edit, task.candidate.image)
        with torch.inference_mode():
            visual, alignment = read_head(*self._head(states, seen, features))
        return {pb.DIMENSION_NATURALNESS: visual, pb.DIMENSION_PROMPT_ALIGNMENT: alignment}

    def _write(
        self, task: CritiqueTask, scores: pb.Scores, claims: Sequence[Claim], measured: pb.Critique
    ) -> pb.Critique:
        mask_area = int(task.prepared.showing.mask.sum())
        defects = [defect for defect in measured.defects if defect.kind in _MEASURED]
        unsupported = []
        for claim in claims:
            found = as_defect(claim, support_of(claim, measured), suggest(claim.kind, claim.box, mask_area))
            if found is None:
                unsupported.append(unsupported_words(claim))
            else:
                defects.append(found)
        defects.sort(key=lambda defect: (-defect.severity, defect.kind))
        defects = defects[: task.options.max_defect_count or DEFAULT_MAX_DEFECTS]
        critique = pb.Critique(
            candidate_id=task.candidate.candidate_id,
            critic=self._identity(),
            scores=scores,
            defects=defects,
            explanation=summarise(defects, ["what was measured"], unsupported),
            measurements=measured.measurements,
            heat_maps=measured.heat_maps,
        )
        if task.candidate.progress is not None:
            critique.progress.CopyFrom(task.candidate.progress)
        return critique

    def _identity(self) -> pb.CriticIdentity:
        return pb.CriticIdentity(
            name="multimodal",
            version=VERSION,
            calibration=f"{self._model.name}, {'quality head, ' if self._head else ''}expectation over five words",
            score_meaning=(
                "Expectation over excellent (100), good (75), fair (50), poor (25) and bad (0) of the model's next"
                " word, and its standard deviation; preservation is measured."
            ),
        )


def open_multimodal(weights: str, options: LoadOptions = AS_IT_IS) -> MultimodalCritic:
    """The critic with a model of a folder, or of a hub by its id, or with a head that names its model.

    Raises:
        InvalidInput: as `open_model` and `load_head` do.
    """
    if (Path(weights) / HEAD_FILE).exists():
        head, model = load_head(Path(weights))
        return MultimodalCritic(open_model(model, options), head=head)
    return MultimodalCritic(open_model(weights, options))


def _happened(measured: pb.Critique) -> float:
    """How far the edit happened, from the measured share that stayed the source."""
    shares = [each.value for each in measured.measurements if each.name == "unchanged_share"]
    return happened_share(max(shares, default=0.0))


def _why_not(candidate: DecodedCandidate) -> Abstention | None:
    progress = candidate.progress
    if progress is None or progress.fraction >= JUDGED_FROM:
        return None
    return Abstention(
        pb.ABSTENTION_REASON_TOO_EARLY,
        f"After {100 * progress.fraction:.0f} % of the steps a preview has no texture to be judged.",
    )
