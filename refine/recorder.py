"""Numbers, times and journals the events of one run; on a resumed run it hands out what was recorded before.

The loop is a function of its request, its engine and its critic. So a run that was killed is resumed by running it
again: as long as there are recorded events each step takes its outcome from there, and then goes on by itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from editcritic.refine.journal import RunJournal
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import EditCriticError, ServerFault, ServerUnavailable

__all__ = ["Recorder"]

Event = refine_pb2.RefineResponse

_AFTER_SAMPLING = (refine_pb2.DECISION_KIND_SELECT, refine_pb2.DECISION_KIND_ASK)


class Recorder:
    """The events of one run.

    Args:
        edit_id: name of the edit. journal: where events are kept; None keeps none.
    """

    def __init__(self, edit_id: str, journal: RunJournal | None = None) -> None:
        self.edit_id, self._journal = edit_id, journal
        self._past: deque[Event] = deque(journal.events(edit_id) if journal else [])
        self._sequence = 0
        # Time goes on where the recorded part ended, whatever lay between.
        self._before_ms = self._past[-1].elapsed_ms if self._past else 0
        self._start = time.monotonic()
        self._last_ms = 0

    @property
    def is_replaying(self) -> bool:
        """Whether the next event was recorded before."""
        return bool(self._past)

    @property
    def elapsed_ms(self) -> int:
        """Time that the run has taken until now, over all its processes."""
        if self._past:
            return self._last_ms
        return self._before_ms + round(1000 * (time.monotonic() - self._start))

    def is_over_time(self, limit_ms: int) -> bool:
        """Whether the run has taken that long; on the recorded part, whether it went no further here."""
        if self._past:
            following = self._past[0]
            return following.HasField("result") or following.decision.kind in _AFTER_SAMPLING
        return self.elapsed_ms >= limit_ms

    def next(
        self, kind: str, make: Callable[[], Any], *, candidate_id: str = "", transient: bool = False
    ) -> Event:
        """The run's next event: recorded, or made now and kept before it is handed out.

        kind: field of RefineResponse. make: does the work and returns the field's message. candidate_id: with
        it, what `make` raises becomes a candidate_error. transient: never kept.
        Raises: ServerFault when the journal was written by another version of the loop; ServerUnavailable.
        """
        if self._past:
            return self._replayed(kind)
        try:
            fields = {kind: make()}
        except EditCriticError as error:
            # A critic that cannot be reached says nothing about the candidate: the run ends here and can be resumed.
            if not candidate_id or isinstance(error, ServerUnavailable):
                raise
            failed = pb.CandidateError(candidate_id=candidate_id, status=error.to_status())
            fields = {"candidate_error": failed}
        self._sequence += 1
        event = Event(sequence=self._sequence, elapsed_ms=self.elapsed_ms, **fields)
        if self._journal is not None and not transient:
            self._journal.append(self.edit_id, event)
        return event

    def _replayed(self, kind: str) -> Event:
        event = self._past.popleft()
        found = event.WhichOneof("event")
        if found not in (kind, "candidate_error"):
            raise ServerFault(
                f"the journal of {self.edit_id!r} has {found} where this version of the loop has {kind}; "
                "it was written by another version: start the edit again",
                reason=pb.ERROR_REASON_INTERNAL,
            )
        self._sequence, self._last_ms = event.sequence, event.elapsed_ms
        return event
