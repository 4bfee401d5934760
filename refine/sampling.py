"""First answers: each is denoised from one rung to the next, looked at on the way, finished, and judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from editcritic.refine.critic import EditJudge
from editcritic.refine.engine import Candidate
from editcritic.refine.run import Made, Run, Steps
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import decode_image, encode_image

__all__ = ["RUNGS", "finish", "sample"]

RUNGS = (0.25, 0.5, 0.75)
"""Shares of the executed steps at which a preview is taken and judged."""


class _Lazy:
    """Makes its candidate when something is left to do: on a resumed run most need no engine any more."""

    def __init__(self, make: Callable[[], Candidate]) -> None:
        self._make = make
        self._made: Candidate | None = None

    def __call__(self) -> Candidate:
        if self._made is None:
            self._made = self._make()
        return self._made

    def drop(self) -> None:
        if self._made is not None:
            self._made.drop()


def sample(run: Run, judge: EditJudge, name: str, seed: int) -> Steps:
    """One answer to the edit; returns it, or None when it failed."""
    yield run.record("candidate_started", refine_pb2.CandidateStarted(candidate_id=name, seed=seed))
    candidate = _Lazy(
        lambda: run.engine.candidate(
            run.source, run.mask, run.edit.prompt, seed=seed, blend_mask=run.blend, **run.options
        )
    )
    try:
        for share in RUNGS:
            run.check_cancelled()
            event = yield from run.attempt("preview", partial(_look, candidate, name, share), name)
            if event is None:
                return None
            seen = pb.Candidate(
                candidate_id=name, image=event.preview.image, region=event.preview.region, seed=seed
            )
            yield from run.attempt("critique", partial(judge.critique, seen, event.preview.progress), name)
        run.check_cancelled()
        return (yield from finish(run, judge, name, partial(_result, candidate, name), run.edit.prompt))
    finally:
        candidate.drop()


def finish(
    run: Run, judge: EditJudge, name: str, make: Callable[[], refine_pb2.CandidateFinished], prompt: str
) -> Steps:
    """Finish a candidate or repair and judge it; returns it as `Made`, or None when either failed."""
    event = yield from run.attempt("candidate_finished", make, name)
    if event is None:
        return None
    finished = event.candidate_finished
    run.evaluations += finished.evaluation_count
    whole = pb.Candidate(candidate_id=name, image=finished.image)
    judged = yield from run.attempt("critique", partial(judge.critique, whole), name)
    return None if judged is None else Made(name, decode_image(finished.image), judged.critique, prompt)


def _look(candidate: Callable[[], Candidate], name: str, share: float) -> refine_pb2.PreviewTaken:
    running = candidate()
    running.advance(share)
    seen = running.preview()
    left, top, right, bottom = seen.region
    return refine_pb2.PreviewTaken(
        candidate_id=name,
        progress=pb.DenoisingProgress(fraction=seen.fraction, step=running.evaluations),
        image=encode_image(seen.picture),
        region=pb.Box(x=left, y=top, width=right - left, height=bottom - top),
    )


def _result(candidate: Callable[[], Candidate], name: str) -> refine_pb2.CandidateFinished:
    running = candidate()
    picture = running.result()
    return refine_pb2.CandidateFinished(
        candidate_id=name, image=encode_image(picture), evaluation_count=running.evaluations
    )
