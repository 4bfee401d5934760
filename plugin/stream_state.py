"""What a stream must remember, without any input or output: credit, what is unanswered, what to send again.

Both clients drive this one state machine. They send what `take_requests` returns, feed `receive` with what
comes, and after a lost connection call `reconnect` and go on: nothing that was answered is sent again, nothing that was
sent is lost, and the edit itself is sent again only to a server that does not keep it.
"""

from __future__ import annotations

from collections import deque

from editcritic.plugin.known_edits import KnownEdits
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["PROTOCOL_REVISION", "StreamState"]

PROTOCOL_REVISION = 1
"""Revision of `editcritic.v1` that this client speaks."""

_Key = tuple[str, float | None]
_ANSWERS = ("critique", "candidate_error", "dropped")


class StreamState:
    """One edit on one stream, over as many connections as it takes.

    Args:
        edit: what the user asked for.
        options: which critic, and how much detail.
        known: edits that this server was sent before; one of them is opened by its name.

    Attributes:
        opened: the server's first answer on the newest connection; None before it.
        is_closed: the server has answered everything and said so.
        answered_count: candidates and previews that were answered, over all connections.
    """

    def __init__(self, edit: pb.Edit, options: pb.CritiqueOptions, known: KnownEdits | None = None) -> None:
        self._open = pb.OpenEdit(edit=edit, options=options, protocol_revision=PROTOCOL_REVISION)
        self._known = known or KnownEdits()
        self._ref = self._known.find(edit)
        self._credit = 0
        self._unsent: deque[pb.CritiqueStreamRequest] = deque()
        self._unanswered: dict[_Key, pb.CritiqueStreamRequest] = {}
        self._cancels: deque[pb.CritiqueStreamRequest] = deque()
        self._open_is_due = True
        self._is_finishing = False
        self._finish_is_due = False
        self.opened: pb.EditOpened | None = None
        self.is_closed = False
        self.answered_count = 0

    @property
    def unanswered_count(self) -> int:
        """Candidates and previews without an answer, sent or not."""
        return len(self._unanswered) + len(self._unsent)

    def add(self, request: pb.CritiqueStreamRequest) -> None:
        """Queue a candidate or a preview.

        Raises:
            RuntimeError: the edit was finished.
        """
        if self._is_finishing:
            raise RuntimeError("the edit is finished; open another one for further candidates")
        self._unsent.append(request)

    def cancel(self, candidate_id: str) -> None:
        """Forget a candidate: what is unsent of it is never sent, and the server frees its name."""
        self._unsent = deque(each for each in self._unsent if _key(each)[0] != candidate_id)
        for key in [key for key in self._unanswered if key[0] == candidate_id]:
            del self._unanswered[key]
        message = pb.CancelCandidate(candidate_id=candidate_id)
        self._cancels.append(pb.CritiqueStreamRequest(cancel_candidate=message))

    def finish(self) -> None:
        """Say that nothing more will be added. Calling it again changes nothing."""
        if not self._is_finishing:
            self._is_finishing = self._finish_is_due = True

    def take_requests(self) -> list[pb.CritiqueStreamRequest]:
        """What may be sent now, in order."""
        ready: list[pb.CritiqueStreamRequest] = []
        if self._open_is_due:
            self._open_is_due = False
            ready.append(pb.CritiqueStreamRequest(open=self._opening()))
        if self.opened is None:
            return ready
        # First, because a name that was cancelled may be among the unsent again.
        ready.extend(self._cancels)
        self._cancels.clear()
        while self._unsent and self._credit > 0:
            request = self._unsent.popleft()
            self._unanswered[_key(request)] = request
            self._credit -= 1
            ready.append(request)
        if self._finish_is_due and not self._unsent:
            self._finish_is_due = False
            ready.append(pb.CritiqueStreamRequest(finish=pb.FinishEdit()))
        return ready

    def receive(self, event: pb.CritiqueStreamResponse) -> pb.CritiqueStreamResponse | None:
        """Take note of an event; returns it when it is news for the caller."""
        kind = event.WhichOneof("event")
        if kind == "opened":
            self._credit = event.opened.credit_count
            self.opened = event.opened
            # A reconnect keeps the edit's name, so that verdicts refer to one edit.
            self._open.edit.edit_id = event.opened.edit_id
            self._name_edit(event.opened.edit_sha256)
        elif kind == "credit":
            self._credit += event.credit.count
        elif kind == "closed":
            self.is_closed = True
        elif kind in _ANSWERS:
            self.answered_count += 1
            # What was cancelled is forgotten already, and its name may be in use again.
            if event.dropped.reason != pb.DROP_REASON_CANCELLED:
                self._unanswered.pop(_answered_key(event), None)
            return event
        elif kind == "going_away":
            return event
        return None

    def wants_whole_edit(self, error: EditCriticError) -> bool:
        """Whether the server only does not keep the edit, so that the next connection sends the whole of it."""
        if error.reason != pb.ERROR_REASON_EDIT_NOT_KEPT or not self._ref:
            return False
        self._name_edit(b"")
        return True

    def _name_edit(self, sha256: bytes) -> None:
        if sha256 != self._ref:
            self._ref = sha256
            self._known.note(self._open.edit, sha256)

    def _opening(self) -> pb.OpenEdit:
        if not self._ref:
            return self._open
        ref = pb.EditRef(sha256=self._ref, edit_id=self._open.edit.edit_id)
        return pb.OpenEdit(
            edit_ref=ref, options=self._open.options, protocol_revision=self._open.protocol_revision
        )

    def reconnect(self) -> None:
        """Begin anew on another connection: open again, and send what has no answer, in the old order."""
        self._unsent.extendleft(reversed(self._unanswered.values()))
        self._unanswered.clear()
        self._cancels.clear()
        self._credit = 0
        self.opened = None
        self._open_is_due = True
        self._finish_is_due = self._is_finishing


def _key(request: pb.CritiqueStreamRequest) -> _Key:
    if request.WhichOneof("action") == "preview":
        return request.preview.candidate.candidate_id, request.preview.progress.fraction
    return request.candidate.candidate_id, None


def _answered_key(event: pb.CritiqueStreamResponse) -> _Key:
    answer = getattr(event, event.WhichOneof("event") or "")
    return answer.candidate_id, answer.progress.fraction if answer.HasField("progress") else None
