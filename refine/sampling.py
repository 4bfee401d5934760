"""First answers: the race decides who runs how far, this carries it out, looks, judges and tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from editcritic.refine.acceptance import scored
from editcritic.refine.critic import EditJudge
from editcritic.refine.drafting import Draft, Drafting, DraftPlan, Wave, draft_of, drafts_anew
from editcritic.refine.engine import Candidate
from editcritic.refine.lane import Lane
from editcritic.refine.preview_table import Group
from editcritic.refine.race import Advance, Drop, MakeDrafts, Move, Race
from editcritic.refine.request import race_options
from editcritic.refine.run import Made, Run, Steps, Stop
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import decode_image, encode_image

__all__ = ["Racing", "ask", "finish"]

_HOPELESS = {
    pb.DEFECT_KIND_UNCHANGED: "nothing has happened inside the mask",
    pb.DEFECT_KIND_BLACK_FILL: "the inside is black",
}
_SURE = 0.9  # severity of such a defect from which it is no matter of degree any more


class Racing:
    """The first answers of a run.

    Args:
        run: the run. judge: the critic that steers. race: decides; its names are those of `seeds`.
        plan: how drafts are made.

    Attributes:
        saved: denoising steps that finishing everybody would have taken beyond those that were; 0 before the race is
            over, and when the budget ended it.
    """

    def __init__(
        self, run: Run, judge: EditJudge, race: Race, seeds: dict[str, int], plan: DraftPlan
    ) -> None:
        self._run, self._judge, self._race, self._plan = run, judge, race, plan
        self._steps = run.steps_of_one
        self._lanes = {
            name: Lane(run.engine, seed, partial(self._start, seed), self._steps)
            for name, seed in seeds.items()
        }
        wave = self._begun if plan.goes_on else self._anew
        self._drafting = Drafting(run, judge, plan, wave)
        self._is_short, self._retried = False, set[str]()
        self.saved = 0

    def steps(self) -> Steps:
        """Events until the race is over. Raises: Stop when the budget ends it earlier."""
        try:
            while (move := self._race.next()) is not None:
                self._run.check_cancelled()
                yield from self._carry_out(move)
        finally:
            for lane in self._lanes.values():
                lane.drop()
        if self._is_short:
            raise Stop(refine_pb2.STOP_REASON_BUDGET_SPENT)
        spent = [self._run.spent.get(name, 0) for name in self._lanes]
        self.saved = max(0, max(spent) * len(spent) - self._run.evaluations)

    def is_worth_another(self, best: float) -> bool:
        """Whether one more seed promises its price over a result of that score; where nobody races it always does."""
        options = race_options(self._run.request.race)
        return options.method != "margin" or self._race.promise_of_another(best) >= options.price

    def another(self) -> Steps:
        """Finish the most promising of those that were dropped; returns it as `Made`, or None when there is none left
        that works and that the budget allows."""
        run = self._run
        for name in self._race.reserve():
            lane = self._lanes[name]
            run.check_cancelled()
            run.check_time()
            if run.steps_left() < lane.total or name in self._retried:
                continue
            self._retried.add(name)
            # What was done is lost with the candidate, but it was spent.
            run.spent[f"{name} dropped"], run.spent[name] = run.spent[name], 0
            lane.is_over = False
            yield run.record("decision", self._recalled(name))
            made = yield from self._finish(name)
            self.saved = max(0, self.saved - run.spent[name])
            if made is not None:
                return made
        return None

    def _recalled(self, name: str) -> refine_pb2.Decision:
        return refine_pb2.Decision(
            kind=refine_pb2.DECISION_KIND_RECALL,
            candidate_id=name,
            reason=f"those that were finished were refused; {self._race.told(name)}",
        )

    def group(self) -> Group | None:
        """What the race teaches about previews; None unless it was to finish everybody, and did.

        A race that merely happened to drop nobody would teach of easy edits only.
        """
        options = race_options(self._run.request.race)
        done = [lane for lane in self._lanes.values() if lane.final is not None]
        if not (options.is_audit or options.method == "plain") or len(done) < len(self._lanes):
            return None
        shares = sorted(set.intersection(*[set(lane.previews) for lane in done]))
        return Group(
            {share: [lane.previews[share] for lane in done] for share in shares},
            [lane.final for lane in done if lane.final is not None],
            [math.nan if lane.draft is None else lane.draft for lane in done]
            if any(lane.draft is not None for lane in done)
            else (),
            self._plan.rest / self._steps,
        )

    def _carry_out(self, move: Move) -> Steps:
        if isinstance(move, Drop):
            return self._drop(move)
        return self._draft(move) if isinstance(move, MakeDrafts) else self._advance(move)

    def _draft(self, move: MakeDrafts) -> Steps:
        names = self._affordable(move.names, self._plan.steps, self._plan.rest)
        for name in names:
            yield self._run.begin(name, self._lanes[name].seed)
        found = yield from self._drafting.steps(names)
        for name in names:
            lane, judged = self._lanes[name], found.get(name)
            if name not in found and self._plan.goes_on:  # it is still there to be tried in whole
                lane.begin_anew(partial(self._start, lane.seed), self._steps)
            lane.draft = _overall(judged) if judged is not None else None
            self._race.drafted(name, lane.draft, _veto(judged), is_lost=name not in found)

    @contextmanager
    def _begun(self, names: Sequence[str]) -> Iterator[Callable[[str], Draft]]:
        """Drafts with which their candidates begin."""
        plan = self._plan
        for name in names:
            lane = self._lanes[name]
            lane.begin_anew(partial(self._start, lane.seed, plan.steps), plan.total, plan.steps)
        self._move([self._lanes[name] for name in names], plan.share)
        yield lambda name: draft_of(self._lanes[name]())

    def _anew(self, names: Sequence[str]) -> Wave:
        return drafts_anew(self._run, {name: partial(self._start_draft, name) for name in names})

    def _drop(self, drop: Drop) -> Steps:
        self._lanes[drop.name].drop()
        decision = refine_pb2.Decision(
            kind=refine_pb2.DECISION_KIND_DROP,
            candidate_id=drop.name,
            reason=drop.reason,
            probability=drop.probability,
        )
        yield self._run.record("decision", decision)

    def _advance(self, move: Advance) -> Steps:
        names = self._affordable(move.names, *self._cost(move))
        for name in names:
            if self._run.spent.get(name) is None:
                yield self._run.begin(name, self._lanes[name].seed)
        if names:
            self._move([self._lanes[name] for name in names], move.fraction)
        for name in names:
            self._run.check_cancelled()
            yield from self._finish(name) if move.fraction >= 1 else self._look(name, move.fraction)

    def _move(self, lanes: Sequence[Lane], fraction: float) -> None:
        for lane in lanes:
            lane.moves.append((fraction, len(lanes) > 1))
        if len(lanes) > 1 and not self._run.recorder.is_replaying:
            ready = [lane for lane in lanes if lane.is_ready()]
            self._run.engine.advance([lane.after(len(lane.moves) - 1) for lane in ready], fraction)
            for lane in ready:
                lane.done = len(lane.moves)

    def _affordable(self, names: Sequence[str], each: int, promised: int) -> Sequence[str]:
        """Those of a move that the budget allows; the first candidate always is.

        each: steps of the move for one of them. promised: steps that must be left after the move.
        """
        run = self._run
        if not run.made and names[0] == next(iter(self._lanes)):
            run.check_cancelled()
            return names
        run.check_time()
        left = run.steps_left()
        fits = len(names) if left == math.inf else max(0, min(len(names), int((left - promised) // each)))
        if names[0] in run.spent and fits < len(names):
            raise Stop(refine_pb2.STOP_REASON_BUDGET_SPENT)
        for name in names[fits:]:
            self._is_short = True
            self._race.failed(name)
        return names[:fits]

    def _cost(self, move: Advance) -> tuple[int, int]:
        """Steps of the move for one of its candidates, and those that must be left after it."""
        run, whole = self._run, self._lanes[move.names[0]].total
        done, to = run.spent.get(move.names[0], 0), round(move.fraction * whole)
        if race_options(run.request.race).method == "plain":
            others = [name for name in self._lanes if self._is_running(name) and name not in move.names]
            return max(1, whole - done), sum(self._lanes[name].total - run.spent[name] for name in others)
        return max(1, to - done), whole - to  # somebody of them must be able to finish

    def _is_running(self, name: str) -> bool:
        return name in self._run.spent and not self._lanes[name].is_over

    def _look(self, name: str, share: float) -> Steps:
        run, lane = self._run, self._lanes[name]
        engine = run.engine.capabilities.name
        event = yield from run.attempt("preview", partial(_preview, lane, name, engine), name)
        if event is None:
            lane.drop()
            self._race.failed(name)
            return
        seen, progress = event.preview, event.preview.progress
        run.spent[name] = progress.step
        shown = pb.Candidate(candidate_id=name, image=seen.image, region=seen.region, seed=lane.seed)
        judged = yield from run.attempt("critique", partial(self._judge.critique, shown, progress), name)
        score = _overall(judged.critique) if judged is not None else None
        if score is not None:
            lane.previews[share] = score
        # Few steps make coarse shares: what counts is where the candidate really stands.
        critique = judged.critique if judged is not None else None
        self._race.seen(name, max(share, progress.fraction), score, _veto(critique))

    def _finish(self, name: str) -> Steps:
        run, lane = self._run, self._lanes[name]
        made = yield from finish(run, self._judge, name, partial(_result, lane, name), run.edit.prompt)
        lane.drop()
        if made is None:
            self._race.failed(name)
            return None
        lane.final = _overall(made.critique)
        self._race.finished(name, lane.final)
        run.made.append(made)
        return made

    def _start(self, seed: int, large_steps: int = 0) -> Candidate:
        large = {"large_steps": large_steps} if large_steps else {}
        return self._candidate(seed, self._run.options | large)

    def _start_draft(self, name: str) -> Candidate:
        return self._candidate(self._lanes[name].seed, self._run.options | {"steps": self._plan.steps})

    def _candidate(self, seed: int, options: dict[str, Any]) -> Candidate:
        run = self._run
        return run.engine.candidate(
            run.source, run.mask, run.edit.prompt, seed=seed, blend_mask=run.blend, **options
        )


def finish(
    run: Run, judge: EditJudge, name: str, make: Callable[[], refine_pb2.CandidateFinished], prompt: str
) -> Steps:
    """Finish a candidate or repair and judge it; returns it as `Made`, or None when either failed."""
    event = yield from run.attempt("candidate_finished", make, name)
    if event is None:
        return None
    finished = event.candidate_finished
    run.spent[name] = finished.evaluation_count
    whole = pb.Candidate(candidate_id=name, image=finished.image)
    judged = yield from run.attempt("critique", partial(judge.critique, whole), name)
    return None if judged is None else Made(name, decode_image(finished.image), judged.critique, prompt)


def ask(run: Run, judge: EditJudge, made: Made) -> Steps:
    """Let the acceptance critic see an edit, once."""
    if made.held_out is None:
        whole = pb.Candidate(candidate_id=made.candidate_id, image=encode_image(made.picture))
        event = yield from run.attempt("critique", partial(judge.critique, whole), made.candidate_id)
        made.held_out = event.critique if event is not None else None


def _overall(critique: pb.Critique) -> float | None:
    return critique.scores.overall.value if scored(critique) else None


def _veto(judged: pb.Critique | None) -> str:
    """Why a preview is hopeless whatever its score; empty when it is not."""
    if judged is None:
        return ""
    found = [each.kind for each in judged.defects if each.severity >= _SURE]
    return next((_HOPELESS[kind] for kind in found if kind in _HOPELESS), "")


def _preview(candidate: Callable[[], Candidate], name: str, engine: str) -> refine_pb2.PreviewTaken:
    running = candidate()
    seen = running.preview()
    left, top, right, bottom = seen.region
    return refine_pb2.PreviewTaken(
        candidate_id=name,
        progress=pb.DenoisingProgress(fraction=seen.fraction, step=running.evaluations, engine=engine),
        image=encode_image(seen.picture),
        region=pb.Box(x=left, y=top, width=right - left, height=bottom - top),
    )


def _result(lane: Lane, name: str) -> refine_pb2.CandidateFinished:
    running = lane()
    picture = running.result()
    return refine_pb2.CandidateFinished(
        candidate_id=name,
        image=encode_image(picture),
        evaluation_count=running.evaluations,
        large_step_count=lane.large_steps,
    )
