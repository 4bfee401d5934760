"""Drafts: what seeds become, after a quarter of the steps, so that a race knows whom to finish.

With a deterministic scheduler the noise that a seed starts from decides what comes out; how many steps it takes changes
little but detail. So a candidate may go its first steps large (`solvers`), and is then nearly what it will be, where a
preview of a candidate that goes small ones is a mean of all that could still become of it. Engines that cannot do that
make the draft a candidate of its own, of few steps; one that is to be finished starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.critic import EditJudge
from editcritic.refine.engine import Candidate
from editcritic.refine.run import Run, Steps
from editcritic.refine.solvers import step_places
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import encode_image

__all__ = ["Draft", "DraftPlan", "Drafting", "Wave", "draft_of", "draft_steps", "drafts_anew", "plan_drafts"]

_FEWEST = 2  # one step shows the mean of everything, as a preview does
_MOST_SHARE = 0.4  # of a candidate's steps, beyond which a draft saves nothing
_TOGETHER = 4  # candidates that an engine is handed at once
_MARGIN = 0.25  # of the edited region's sides, shown around it


@dataclass(frozen=True)
class DraftPlan:
    """How drafts of an edit are made.

    Attributes:
        steps: of a draft; 0 where no draft would show something and save something.
        rest: steps from there to a finished candidate. goes_on: whether the draft is that candidate's beginning.
    """

    steps: int
    rest: int
    goes_on: bool

    @property
    def total(self) -> int:
        """Steps of a candidate that begins as a draft."""
        return self.steps + self.rest if self.goes_on else self.rest

    @property
    def share(self) -> float:
        """Where the draft stands among them, in (0, 1)."""
        return self.steps / self.total


@dataclass(frozen=True, eq=False)
class Draft:
    """picture: (H, W, 3) uint8. region: left, top, right, bottom of it in the source, pixels. evaluations: steps."""

    picture: NDArray[np.uint8]
    region: tuple[int, int, int, int]
    evaluations: int


Wave: TypeAlias = AbstractContextManager[Callable[[str], Draft]]
"""Candidates that are drafted together, while it is open; a draft by its candidate's name."""


def draft_steps(steps: int, share: float) -> int:
    """Steps of a draft of a candidate of so many; 0 where no draft would show something and save something."""
    wanted = max(_FEWEST, round(steps * share))
    return wanted if wanted <= _MOST_SHARE * steps else 0


def plan_drafts(able: Capabilities, steps: int, share: float, strength: float | None) -> DraftPlan:
    """How an engine makes drafts in that share of the steps of a whole candidate."""
    count, is_whole = draft_steps(steps, share), strength is None or strength >= 1
    if count == 0 or not (able.drafts and is_whole):
        return DraftPlan(count, steps, goes_on=False)
    return DraftPlan(count, len(step_places(steps, count)) - count, goes_on=True)


class Drafting:
    """Has drafts of a run's first answers made and judged.

    Args:
        run: the run. judge: the critic that steers. plan: how drafts are made.
        wave: starts the drafts of some candidates.
    """

    def __init__(
        self, run: Run, judge: EditJudge, plan: DraftPlan, wave: Callable[[Sequence[str]], Wave]
    ) -> None:
        self._run, self._judge, self._plan, self._wave = run, judge, plan, wave

    def steps(self, names: Sequence[str]) -> Steps:
        """Events; returns the critiques by name of those that could be made, None where one could not be judged.

        Raises: Stop when the run is cancelled or its time is over.
        """
        found: dict[str, pb.Critique | None] = {}
        for start in range(0, len(names), _TOGETHER):
            if start > 0:
                self._run.check_time()
            together = names[start:][:_TOGETHER]
            with self._wave(together) as made:
                for name in together:
                    yield from self._judged(name, made, found)
        return found

    def _judged(self, name: str, made: Callable[[str], Draft], found: dict[str, pb.Critique | None]) -> Steps:
        run = self._run
        run.check_cancelled()
        event = yield from run.attempt("preview", partial(self._taken, made, name), name)
        if event is None:
            return
        run.spent[name if self._plan.goes_on else f"{name} draft"] = event.preview.progress.step
        judged = yield from run.attempt("critique", partial(self._critique, name, event.preview), name)
        found[name] = judged.critique if judged is not None else None

    def _taken(self, made: Callable[[str], Draft], name: str) -> refine_pb2.PreviewTaken:
        draft = made(name)
        left, top, right, bottom = draft.region
        return refine_pb2.PreviewTaken(
            candidate_id=name,
            progress=_progress(draft.evaluations, self._run.steps_of_one),
            image=encode_image(draft.picture),
            region=pb.Box(x=left, y=top, width=right - left, height=bottom - top),
            is_draft=True,
            goes_on=self._plan.goes_on,
        )

    def _critique(self, name: str, seen: refine_pb2.PreviewTaken) -> pb.Critique:
        """Judged as what it is, a picture with all its steps, and told as what it is to the candidate, a beginning."""
        shown = pb.Candidate(candidate_id=name, image=seen.image, region=seen.region)
        critique = self._judge.critique(shown, _progress(seen.progress.step, seen.progress.step))
        critique.progress.CopyFrom(seen.progress)
        return critique


def draft_of(candidate: Candidate) -> Draft:
    """The draft of a candidate that has gone its large steps."""
    seen = candidate.preview(in_full=True)
    return Draft(seen.picture, seen.region, candidate.evaluations)


@contextmanager
def drafts_anew(run: Run, starts: Mapping[str, Callable[[], Candidate]]) -> Iterator[Callable[[str], Draft]]:
    """Drafts that are candidates of their own; starts: prepares them, of few steps."""
    wave = _Anew(run, starts)
    try:
        yield wave.draft
    finally:
        wave.drop()


class _Anew:
    """All are denoised when one is needed: a resumed run often needs none, and in company a step may round differently
    from a step alone."""

    def __init__(self, run: Run, starts: Mapping[str, Callable[[], Candidate]]) -> None:
        self._run, self._starts = run, starts
        self._made: dict[str, Candidate] = {}

    def draft(self, name: str) -> Draft:
        """A draft at the end of its steps."""
        if not self._made:
            self._made = {each: start() for each, start in self._starts.items()}
            if len(self._made) > 1:
                self._run.engine.advance(list(self._made.values()), 1.0)
        left, top, right, bottom = region = _shown(self._run)
        picture = self._made[name].result()[top:bottom, left:right]
        return Draft(picture, region, self._made[name].evaluations)

    def drop(self) -> None:
        for each in self._made.values():
            each.drop()


def _progress(step: int, step_count: int) -> pb.DenoisingProgress:
    return pb.DenoisingProgress(fraction=min(1.0, step / step_count), step=step, step_count=step_count)


def _shown(run: Run) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the edited region and a little around it, pixels, right and bottom exclusive."""
    spans = []
    for axis in (1, 0):
        touched = np.flatnonzero(run.blend.max(axis=1 - axis) > 0)
        low, high = int(touched[0]), int(touched[-1]) + 1
        margin = round(_MARGIN * (high - low))
        spans.append((max(0, low - margin), min(run.blend.shape[axis], high + margin)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom
