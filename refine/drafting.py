"""Drafts: candidates carried out in a share of their steps, from the same seeds, so that a race knows whom to finish.

With a deterministic scheduler the noise that a seed starts from decides what comes out; how many steps it takes changes
little but detail. A draft in five of twenty steps therefore tells more of the result than the prediction after five,
which is a mean of all that could still become of it. Its steps are lost, though: a candidate that goes on starts anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from editcritic.refine.critic import EditJudge
from editcritic.refine.engine import Candidate
from editcritic.refine.run import Run, Steps
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import encode_image

__all__ = ["Drafting", "draft_steps"]

_FEWEST = 2  # one step shows the mean of everything, as a preview does
_MOST_SHARE = 0.4  # of a candidate's steps, beyond which a draft saves nothing
_TOGETHER = 4  # drafts that an engine is handed at once; more of them would only be held in memory
_MARGIN = 0.25  # of the edited region's sides, shown around it


def draft_steps(steps: int, share: float) -> int:
    """Steps of a draft of a candidate of so many; 0 where no draft would show something and save something."""
    wanted = max(_FEWEST, round(steps * share))
    return wanted if wanted <= _MOST_SHARE * steps else 0


class Drafting:
    """Makes drafts of a run's first answers and has them judged.

    Args:
        run: the run. judge: the critic that steers.
        start: prepares the answer of a name in so many steps.
    """

    def __init__(self, run: Run, judge: EditJudge, start: Callable[[str, int], Candidate]) -> None:
        self._run, self._judge, self._start = run, judge, start
        self._region = _shown(run)

    def steps(self, names: Sequence[str], count: int) -> Steps:
        """Events; returns the critiques by name, of those that could be made and judged.

        Raises: Stop when the run is cancelled or its time is over.
        """
        found: dict[str, pb.Critique] = {}
        for start in range(0, len(names), _TOGETHER):
            if start > 0:
                self._run.check_time()
            wave = _Wave(
                self._run, {name: partial(self._start, name, count) for name in names[start:][:_TOGETHER]}
            )
            try:
                yield from self._judge_all(wave, found)
            finally:
                wave.drop()
        return found

    def _judge_all(self, wave: _Wave, found: dict[str, pb.Critique]) -> Steps:
        for name in wave.starts:
            self._run.check_cancelled()
            event = yield from self._run.attempt("preview", partial(self._taken, wave, name), name)
            if event is not None:
                self._run.spent[f"{name} draft"] = event.preview.progress.step
                seen = partial(self._critique, name, event.preview)
                judged = yield from self._run.attempt("critique", seen, name)
                found |= {name: judged.critique} if judged is not None else {}

    def _taken(self, wave: _Wave, name: str) -> refine_pb2.PreviewTaken:
        left, top, right, bottom = self._region
        candidate = wave.finished(name)
        picture = candidate.result()[top:bottom, left:right]
        return refine_pb2.PreviewTaken(
            candidate_id=name,
            progress=_progress(candidate.evaluations, self._run.steps_of_one),
            image=encode_image(picture),
            region=pb.Box(x=left, y=top, width=right - left, height=bottom - top),
            is_draft=True,
        )

    def _critique(self, name: str, seen: refine_pb2.PreviewTaken) -> pb.Critique:
        """Judged as what it is, a picture with all its steps, and told as what it is to the candidate, a beginning."""
        shown = pb.Candidate(candidate_id=name, image=seen.image, region=seen.region)
        critique = self._judge.critique(shown, _progress(seen.progress.step, seen.progress.step))
        critique.progress.CopyFrom(seen.progress)
        return critique


def _progress(step: int, step_count: int) -> pb.DenoisingProgress:
    return pb.DenoisingProgress(fraction=min(1.0, step / step_count), step=step, step_count=step_count)


class _Wave:
    """Drafts that are denoised together, all when one is needed: a resumed run often needs none, and in company a step
    may round differently from a step alone."""

    def __init__(self, run: Run, starts: Mapping[str, Callable[[], Candidate]]) -> None:
        self._run, self.starts = run, starts
        self._made: dict[str, Candidate] = {}

    def finished(self, name: str) -> Candidate:
        """A draft at the end of its steps."""
        if not self._made:
            self._made = {each: start() for each, start in self.starts.items()}
            if len(self._made) > 1:
                self._run.engine.advance(list(self._made.values()), 1.0)
        return self._made[name]

    def drop(self) -> None:
        for each in self._made.values():
            each.drop()


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
