"""What published judges have in common: an edit is shown to one, its numbers become scores, the rest is abstained from.

A judge says of itself under which licence it comes, what it is shown, and what its numbers mean; a number that is
missing is an error of that candidate and never a middling score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome, judge_each
from editcritic.server.critics.change import largest_change
from editcritic.server.critics.evidence.fill import SAME_LEVELS, happened_share
from editcritic.server.critics.multimodal.showing import Showing, show, show_candidate
from editcritic.server.critics.scoring import Abstention, abstained, make_scores, scored
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ServerFault

__all__ = ["Judge", "JudgeCritic", "Rating", "Shown", "Terms"]

VERSION = "1"
JUDGED_FROM = 0.8
"""Published judges were taught on finished pictures only."""
_LOOKS = (pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION)


@dataclass(frozen=True)
class Terms:
    """What a judge is.

    Attributes:
        source: paper or repository.
        licence: of the weights that its authors publish; "the model's own" where any model serves.
        sees_source, sees_mask: whether it is shown them.
        meaning: of its score, and how it came to be from 0 to 100.
    """

    source: str
    licence: str
    sees_source: bool
    sees_mask: bool
    meaning: str


@dataclass(frozen=True, eq=False)
class Shown:
    """An edit as judges are shown it, all (h, w, 3) uint8.

    Attributes:
        before, after: the region with its surroundings at native resolution.
        outlined: `after` with the region outlined.
        prompt: what was asked for; may be empty.
    """

    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    outlined: NDArray[np.uint8]
    prompt: str


@dataclass(frozen=True)
class Rating:
    """One number of a judge, from 0 to 100, and its standard deviation."""

    value: float
    stddev: float


class Judge(Protocol):
    """Rates one edit; the same edit always gets the same numbers."""

    name: str
    model: str
    device: str
    terms: Terms
    dimensions: Sequence[pb.Dimension.ValueType]

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """The ratings by dimension; prompt alignment is left out without a prompt.

        Raises:
            EditCriticError: an answer that cannot be read.
        """


class JudgeCritic:
    """A published judge as a critic. It names no defect, and a copy of the source is no edit whatever it says."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    @property
    def info(self) -> pb.CriticInfo:
        """Name, terms, and what is judged."""
        terms = self._judge.terms
        seen = [
            words
            for words, shown in (("the source", terms.sees_source), ("the mask's outline", terms.sees_mask))
            if shown
        ]
        return pb.CriticInfo(
            identity=self._identity(),
            description=(
                f"{self._judge.model}, asked as in {terms.source}. Licence of the published weights: {terms.licence}."
                f" It is shown the region after the edit{''.join(f', {words}' for words in seen)}."
            ),
            dimensions=self._judge.dimensions,
            judges_previews=False,
            device=self._judge.device,
        )

    def prepare(self, edit: DecodedEdit) -> Showing:
        """Cut what the judge is shown of the source."""
        return show(edit)

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task; each is judged alone."""
        return judge_each(tasks, self._critique, is_cancelled)

    def _critique(self, task: CritiqueTask) -> pb.Critique:
        start = time.perf_counter()
        progress = task.candidate.progress
        early = progress is not None and progress.fraction < JUDGED_FROM
        ratings = {} if early else self._rate(task)
        scores = {
            dimension: self._score(dimension, ratings, task, early=early)
            for dimension in (*_LOOKS, pb.DIMENSION_PROMPT_ALIGNMENT)
        }
        alignment = scores.pop(pb.DIMENSION_PROMPT_ALIGNMENT)
        critique = pb.Critique(
            candidate_id=task.candidate.candidate_id,
            critic=self._identity(),
            scores=make_scores(scores, _happened(task), alignment),
            explanation=f"{self._judge.model} gives numbers without reasons.",
        )
        if progress is not None:
            critique.progress.CopyFrom(progress)
        critique.timings.critique_ms = 1000 * (time.perf_counter() - start)
        return critique

    def _rate(self, task: CritiqueTask) -> Mapping[pb.Dimension.ValueType, Rating]:
        ratings = self._judge.rate(_shown(task))
        if not np.isfinite([(each.value, each.stddev) for each in ratings.values()]).all():
            raise ServerFault(f"{self._judge.name} gave no finite number")
        return ratings

    def _score(
        self,
        dimension: pb.Dimension.ValueType,
        ratings: Mapping[pb.Dimension.ValueType, Rating],
        task: CritiqueTask,
        *,
        early: bool,
    ) -> pb.Score:
        if dimension in ratings:
            return scored(ratings[dimension].value, ratings[dimension].stddev)
        if dimension not in self._judge.dimensions:
            why = Abstention(pb.ABSTENTION_REASON_NOT_JUDGED, f"{self._judge.name} does not judge this.")
        elif early:
            why = Abstention(
                pb.ABSTENTION_REASON_TOO_EARLY, f"{self._judge.name} was taught on finished pictures."
            )
        elif not task.edit.prompt.strip():
            why = Abstention(pb.ABSTENTION_REASON_NO_PROMPT, "There is no prompt to compare with.")
        else:
            why = Abstention(pb.ABSTENTION_REASON_NOT_JUDGED, f"{self._judge.name} gave no number for this.")
        return abstained(why)

    def _identity(self) -> pb.CriticIdentity:
        return pb.CriticIdentity(
            name=self._judge.name,
            version=VERSION,
            calibration=self._judge.model,
            score_meaning=self._judge.terms.meaning,
        )


def _shown(task: CritiqueTask) -> Shown:
    before, after, outlined, _ = show_candidate(task.prepared, task.candidate.image)
    return Shown(before, after, outlined, task.edit.prompt.strip())


def _happened(task: CritiqueTask) -> float:
    showing: Showing = task.prepared
    same = largest_change(task.edit.source, task.candidate.image)[showing.mask] <= SAME_LEVELS
    share = float(same.mean()) if same.size else 0.0
    return happened_share(share)
