"""One run's state: the edit as arrays, what was made until now, what it cost, and whether it may go on."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from editcritic.refine.engine import Engine
from editcritic.refine.journal import RunJournal
from editcritic.refine.quality_options import QualityOptions, quality_options
from editcritic.refine.recorder import Event, Recorder
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import decode_image, decode_mask

__all__ = ["Made", "Run", "Steps", "Stop"]

Steps: TypeAlias = Generator[Event, None, Any]
"""A part of the loop: yields events, returns what it found."""


class Stop(Exception):
    """Ends a run in good order. reason: why."""

    def __init__(self, reason: refine_pb2.StopReason.ValueType) -> None:
        self.reason = reason


@dataclass(eq=False)
class Made:
    """A finished and judged edit.

    picture: (H, W, 3) uint8. critique: of the critic that steers. prompt: what the engine was asked for. held_out: of
    the acceptance critic, where that is another one and was asked.
    """

    candidate_id: str
    picture: NDArray[np.uint8]
    critique: pb.Critique
    prompt: str
    held_out: pb.Critique | None = None


class Run:
    """What the parts of the loop share.

    Args:
        engine: produces candidates. request: as `completed_request` gives it. journal: where events are kept.

    Attributes:
        source: (H, W, 3) uint8. mask, blend: (H, W) float32 in [0, 1].
        made: finished first answers, in order. best: the edit to hand back, None at first.
        spent: denoising steps until now, by candidate. failure: why the newest step that failed did.

    Raises: InvalidInput when the journal has an edit of that name that asked for something else, or the engine
        cannot paint as it is asked to.
    """

    def __init__(self, engine: Engine, request: refine_pb2.RefineRequest, journal: RunJournal | None) -> None:
        self.engine, self.request, self.edit = engine, request, request.edit
        (quality_options(request.sampling) or QualityOptions()).checked(engine.capabilities)
        self.source = decode_image(request.edit.source)
        self.mask, self.blend = decode_mask(request.edit.denoise_mask), decode_mask(request.edit.blend_mask)
        self.made: list[Made] = []
        self.best: Made | None = None
        self.spent: dict[str, int] = {}
        self.failure: Status | None = None
        self.cancelled = threading.Event()
        self.recorder = Recorder(request.edit.edit_id, journal)
        if journal is not None:
            journal.begin(request.edit.edit_id, request)

    @property
    def evaluations(self) -> int:
        """Denoising steps until now."""
        return sum(self.spent.values())

    @property
    def steps_of_one(self) -> int:
        """Denoising steps that a whole candidate takes, as far as is known before it runs."""
        return self.request.sampling.step_count or self.engine.capabilities.default_steps

    @property
    def options(self) -> dict[str, Any]:
        """Sampling options for `Engine.candidate`; the loop never changes them to gain a score."""
        sampling = self.request.sampling
        return {
            "steps": sampling.step_count or None,
            "strength": sampling.strength if sampling.HasField("strength") else None,
            "guidance": sampling.guidance_scale if sampling.HasField("guidance_scale") else None,
            "negative_prompt": self.edit.negative_prompt,
            "quality": quality_options(sampling),
        }

    def record(self, kind: str, message: Any) -> Event:
        """An event that costs nothing to make."""
        return self.recorder.next(kind, lambda: message)

    def attempt(self, kind: str, make: Callable[[], Any], candidate_id: str) -> Steps:
        """Yield the event of a step; return it when the step worked, else None. The run goes on either way."""
        event = self.recorder.next(kind, make, candidate_id=candidate_id)
        yield event
        if event.HasField("candidate_error"):
            self.failure = event.candidate_error.status
            return None
        return event

    def decide(
        self,
        kind: refine_pb2.DecisionKind.ValueType,
        about: Made,
        reason: str,
        action: pb.SuggestedAction | None = None,
    ) -> Event:
        """A decision with its reason, as an event."""
        decision = refine_pb2.Decision(
            kind=kind, candidate_id=about.candidate_id, reason=reason, action=action
        )
        return self.record("decision", decision)

    def check_cancelled(self) -> None:
        """Raises: Stop when the caller has asked for it. What was recorded before is always replayed in full."""
        if self.cancelled.is_set() and not self.recorder.is_replaying:
            raise Stop(refine_pb2.STOP_REASON_CANCELLED)

    def begin(self, name: str, seed: int) -> Event:
        """The event that a first answer was started."""
        self.spent[name] = 0
        return self.record("candidate_started", refine_pb2.CandidateStarted(candidate_id=name, seed=seed))

    def steps_left(self) -> float:
        """Denoising steps that the budget still allows; infinite without a limit."""
        limit = self.request.budget.evaluation_count
        return limit - self.evaluations if limit > 0 else math.inf

    def check_time(self) -> None:
        """Raises: Stop when the time is over."""
        limit = self.request.budget.time_ms
        if limit > 0 and self.recorder.is_over_time(limit):
            raise Stop(refine_pb2.STOP_REASON_BUDGET_SPENT)

    def check_budget(self) -> None:
        """Raises: Stop when another whole candidate would not fit, or the caller has asked for it."""
        self.check_cancelled()
        self.check_time()
        if self.steps_left() < self.steps_of_one:
            raise Stop(refine_pb2.STOP_REASON_BUDGET_SPENT)
