"""How long a run of the loop may still take: the time a step took until now, times the steps that may still come."""

from __future__ import annotations

from editcritic.v1 import refine_pb2

__all__ = ["TimeLeft"]

_Event = refine_pb2.RefineResponse


class TimeLeft:
    """Takes events, gives an upper bound.

    A step's time is the run's time over the steps done, so it has judging and decoding in it. Steps that may still
    come: what is left of each candidate that was begun, every candidate that was not, and a whole one for each repair
    round left, though a repair may need none. The budget caps both. A dropped candidate that is taken up again counts
    from then on.
    """

    def __init__(self) -> None:
        self._started = refine_pb2.RunStarted()
        self._open: dict[str, int] = {}  # steps done of what was begun and has not ended
        self._closed_steps = self._begun = self._repairs = self._elapsed_ms = 0
        self._executed = 0
        self._is_over = False

    def take(self, event: _Event) -> None:
        """Bring the figures up to an event."""
        self._elapsed_ms = max(self._elapsed_ms, event.elapsed_ms)
        kind = event.WhichOneof("event")
        if kind == "started":
            self._started = event.started
        elif kind == "candidate_started":
            is_repair = bool(event.candidate_started.parent_candidate_id)
            self._begun, self._repairs = self._begun + (not is_repair), self._repairs + is_repair
            self._open[event.candidate_started.candidate_id] = 0
        elif kind == "preview" and event.preview.is_draft and not event.preview.goes_on:
            self._closed_steps += event.preview.progress.step
        elif kind == "preview" and event.preview.candidate_id in self._open:
            self._open[event.preview.candidate_id] = event.preview.progress.step
        elif kind == "candidate_finished":
            cost = event.candidate_finished.evaluation_count
            self._executed = max(self._executed, cost)
            self._close(event.candidate_finished.candidate_id, cost)
        elif kind == "candidate_error":
            self._close(event.candidate_error.candidate_id)
        elif kind == "decision":
            self._take_decision(event.decision)
        elif kind == "result":
            self._is_over = True

    @property
    def most_s(self) -> float | None:
        """Seconds that it takes at most; None before the first measured step and after the end."""
        done = self._closed_steps + sum(self._open.values())
        if self._is_over or not done or not self._elapsed_ms:
            return None
        budget, seconds = self._started.budget, self._elapsed_ms / 1000
        # The budget is looked at before each candidate: what was begun is finished.
        steps, begun = self._steps_left(), self._begun_steps_left()
        if budget.evaluation_count:
            steps = min(steps, max(begun, budget.evaluation_count - done))
        left = steps * seconds / done
        if budget.time_ms:
            left = min(left, max(budget.time_ms / 1000 - seconds, 0) + begun * seconds / done)
        return left

    def words(self) -> str:
        """The bound for people, rounded up; empty where there is none."""
        most = self.most_s
        if most is None:
            return ""
        whole = max(1, -int(-most // 1))
        return (
            f"at most {whole // 60} min {whole % 60:02d} s left" if whole >= 60 else f"at most {whole} s left"
        )

    @property
    def _whole(self) -> int:
        """Steps of one answer."""
        return self._executed or self._started.sampling.step_count or self._started.engine.default_step_count

    def _begun_steps_left(self) -> int:
        return sum(max(0, self._whole - done) for done in self._open.values())

    def _steps_left(self) -> int:
        candidates = max(0, self._started.sampling.candidate_count - self._begun)
        rounds = max(0, self._started.budget.repair_round_count - self._repairs)
        return self._begun_steps_left() + (candidates + rounds) * self._whole

    def _take_decision(self, decision: refine_pb2.Decision) -> None:
        if decision.kind == refine_pb2.DECISION_KIND_DROP:
            self._close(decision.candidate_id)
        if decision.kind == refine_pb2.DECISION_KIND_RECALL:
            self._open[decision.candidate_id] = 0
        if decision.kind == refine_pb2.DECISION_KIND_SELECT:
            # Whatever was not begun until now will not be.
            self._begun = max(self._begun, self._started.sampling.candidate_count)

    def _close(self, name: str, cost: int = 0) -> None:
        self._closed_steps += max(cost, self._open.pop(name, 0))
