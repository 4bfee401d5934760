"""One stream: an edit that is opened once, and candidates that are judged while they are produced.

Reading, judging and answering are separate tasks. Memory stays bounded by the credit: a place is given back
only once its answer was written, so a client that does not read cannot send more either.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from editcritic.server.callers import current_caller
from editcritic.server.decoding import check_id
from editcritic.server.opened_edit import OpenedEdit
from editcritic.server.queueing import Ticket
from editcritic.server.settings import PROTOCOL_REVISION, ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import (
    CandidateExists,
    DeadlineExceeded,
    EditCriticError,
    InvalidInput,
    Overloaded,
    ProtocolError,
)

__all__ = ["CritiqueSession"]

Opener = Callable[[pb.OpenEdit], Awaitable[OpenedEdit]]
_Event = pb.CritiqueStreamResponse


@dataclass(eq=False)
class _Pending:
    """A candidate or preview without an answer yet."""

    candidate: pb.Candidate
    progress: pb.DenoisingProgress | None
    task: asyncio.Task[None] | None = None
    ticket: Ticket | None = None

    @property
    def is_running(self) -> bool:
        return self.ticket is not None and self.ticket.started is not None

    def keep_ticket(self, ticket: Ticket) -> None:
        self.ticket = ticket


class CritiqueSession:
    """The state of one `CritiqueStream` call.

    Args:
        requests: what the client sends.
        open_edit: decodes an edit, or finds one that is kept, and begins to prepare it.
        settings: the limits.
    """

    def __init__(
        self, requests: AsyncIterator[pb.CritiqueStreamRequest], open_edit: Opener, settings: ServerSettings
    ) -> None:
        self._requests = requests
        self._open_edit = open_edit
        self._settings = settings
        self._edit: OpenedEdit | None = None
        self._pending: set[_Pending] = set()
        self._finished_ids: set[str] = set()
        self._window = current_caller().window(settings.max_pending)
        self._credit = self._window
        self._unreturned_credit = 0
        self._totals = pb.EditClosed()
        self._outbox: asyncio.Queue[_Event | Exception | None] = asyncio.Queue()
        self._is_over = False
        self._reader: asyncio.Task[None] | None = None
        self._last_activity = time.monotonic()

    async def events(self) -> AsyncIterator[_Event]:
        """Everything that happens, until the edit is closed.

        Raises:
            EditCriticError: the stream cannot go on.
        """
        self._reader = asyncio.create_task(self._read_all())
        try:
            while True:
                event = await self._next_event()
                given_up = asyncio.get_running_loop().call_later(self._settings.idle_timeout_s, self.abort)
                try:
                    yield event
                finally:
                    # Of a cancelled stream it would hold the edit until it fires.
                    given_up.cancel()
                self._check_read()
                if event.WhichOneof("event") == "closed":
                    return
                if self._returns_credit(event):
                    yield self._credit_event()
        finally:
            self.abort()

    def abort(self) -> None:
        """Take back all work and room, and forget what is unread. Safe to call twice."""
        if self._reader is not None:
            self._reader.cancel()
        for pending in self._pending:
            if pending.task is not None:
                pending.task.cancel()
        self._pending.clear()
        self._is_over = True
        while not self._outbox.empty():
            self._outbox.get_nowait()
        if self._edit is not None:
            self._edit.close()

    @property
    def unread_count(self) -> int:
        """Events that wait for the client to read them; at most its credit and a few of the server's own."""
        return self._outbox.qsize()

    def _tell(self, event: _Event | Exception) -> None:
        # A task that was cancelled with an answer in its hands comes here after all is over.
        if not self._is_over:
            self._outbox.put_nowait(event)

    def announce_shutdown(self, grace_s: float) -> None:
        """Tell the client that the server is stopping."""
        self._tell(_Event(going_away=pb.GoingAway(grace_ms=round(grace_s * 1000))))

    async def _next_event(self) -> _Event:
        while True:
            # Cheaper than `asyncio.wait_for`, which makes a task of every wait.
            reminder = asyncio.get_running_loop().call_later(
                self._settings.idle_timeout_s, self._outbox.put_nowait, None
            )
            try:
                event = await self._outbox.get()
            finally:
                reminder.cancel()
            if event is None:
                self._check_idle()
                continue
            if isinstance(event, Exception):
                raise event
            return event

    def _check_read(self) -> None:
        if self._is_over:
            raise DeadlineExceeded(
                f"the answers were not read for {self._settings.idle_timeout_s:.0f} s; read while you send.",
                reason=pb.ERROR_REASON_STREAM_IDLE,
            )

    def _check_idle(self) -> None:
        idle_s = time.monotonic() - self._last_activity
        if not self._pending and idle_s >= self._settings.idle_timeout_s:
            raise DeadlineExceeded(
                f"nothing was sent for {idle_s:.0f} s; open the edit again when there is more.",
                reason=pb.ERROR_REASON_STREAM_IDLE,
            )

    def _returns_credit(self, event: _Event) -> bool:
        if _is_answer(event):
            self._unreturned_credit += 1
        return self._unreturned_credit > self._window // 4

    def _credit_event(self) -> _Event:
        count, self._unreturned_credit = self._unreturned_credit, 0
        self._credit += count
        return _Event(credit=pb.Credit(count=count))

    async def _read_all(self) -> None:
        try:
            await self._read_until_finish()
            await self._settle()
            self._tell(_Event(closed=self._totals))
        except Exception as error:
            self._tell(error)

    async def _read_until_finish(self) -> None:
        async for request in self._requests:
            self._last_activity = time.monotonic()
            action = request.WhichOneof("action")
            if action == "open":
                await self._open(request.open)
            elif self._edit is None:
                raise _protocol_error(f"{action or 'an empty message'} came before open.")
            elif action == "candidate":
                self._accept(_Pending(request.candidate, None))
            elif action == "preview":
                self._accept(_Pending(request.preview.candidate, request.preview.progress))
            elif action == "cancel_candidate":
                self._forget(request.cancel_candidate.candidate_id)
            elif action == "finish":
                return
            else:
                raise _protocol_error("a message without an action came.")
            # An idle stream must not hold the edit's file until the next message comes.
            del request
        # A cancelled call also ends its input, so the end alone never means that the client is done.
        raise _protocol_error("the stream ended without finish; its open work was dropped.")

    async def _settle(self) -> None:
        while self._pending:
            tasks = [pending.task for pending in self._pending if pending.task is not None]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _open(self, message: pb.OpenEdit) -> None:
        if self._edit is not None:
            raise _protocol_error("the edit was opened twice; use another stream for another edit.")
        if message.protocol_revision > PROTOCOL_REVISION:
            raise ProtocolError(
                f"the client speaks revision {message.protocol_revision} of editcritic.v1, this server"
                f" revision {PROTOCOL_REVISION}; update the server, or use an older client.",
                reason=pb.ERROR_REASON_UNSUPPORTED_PROTOCOL,
                metadata={"server_revision": str(PROTOCOL_REVISION)},
            )
        if not (message.HasField("edit") or message.HasField("edit_ref")):
            raise InvalidInput("open has no edit.", reason=pb.ERROR_REASON_FIELD_MISSING, field="open.edit")
        self._edit = await self._open_edit(message)
        opened = pb.EditOpened(
            edit_id=self._edit.edit.edit_id,
            critic=self._edit.host.info.identity,
            credit_count=self._credit,
            limits=self._settings.limits(),
            protocol_revision=PROTOCOL_REVISION,
            edit_sha256=self._edit.sha256,
        )
        self._tell(_Event(opened=opened))

    def _accept(self, pending: _Pending) -> None:
        if self._credit < 1:
            raise _protocol_error(f"more than {self._window} candidates are unanswered; wait for credit.")
        self._credit -= 1
        self._pending.add(pending)
        try:
            self._admit(pending)
        except EditCriticError as error:
            self._answer_error(pending, error)
            return
        self._drop_waiting_previews(pending)
        pending.task = asyncio.create_task(self._judge(pending))

    def _admit(self, pending: _Pending) -> None:
        candidate_id = check_id(pending.candidate.candidate_id, "candidate_id")
        if candidate_id in self._finished_ids:
            raise CandidateExists(
                f"the candidate {candidate_id!r} was sent before on this stream.",
                reason=pb.ERROR_REASON_CANDIDATE_EXISTS,
                field="candidate_id",
            )
        if pending.progress is None:
            self._finished_ids.add(candidate_id)

    def _drop_waiting_previews(self, newer: _Pending) -> None:
        for older in self._of_candidate(newer.candidate.candidate_id):
            if older is not newer and older.progress is not None and not older.is_running:
                self._drop(older, pb.DROP_REASON_SUPERSEDED)

    def _forget(self, candidate_id: str) -> None:
        for pending in self._of_candidate(candidate_id):
            self._drop(pending, pb.DROP_REASON_CANCELLED)
        self._finished_ids.discard(candidate_id)

    def _of_candidate(self, candidate_id: str) -> list[_Pending]:
        return [pending for pending in self._pending if pending.candidate.candidate_id == candidate_id]

    async def _judge(self, pending: _Pending) -> None:
        assert self._edit is not None  # noqa: S101 - narrows the type; _accept runs after open only
        try:
            critique = await self._edit.critique(
                pending.candidate, pending.progress, on_ticket=pending.keep_ticket
            )
        except Overloaded as error:
            if pending.progress is not None and error.reason == pb.ERROR_REASON_QUEUE_FULL:
                self._drop(pending, pb.DROP_REASON_OVERLOAD)
            else:
                self._answer_error(pending, error)
        except EditCriticError as error:
            self._answer_error(pending, error)
        except Exception as error:
            self._tell(error)
        else:
            self._totals.critique_count += 1
            self._answer(pending, _Event(critique=critique))

    def _answer(self, pending: _Pending, event: _Event) -> None:
        self._last_activity = time.monotonic()
        self._pending.discard(pending)
        self._tell(event)

    def _answer_error(self, pending: _Pending, error: EditCriticError) -> None:
        self._totals.error_count += 1
        if not isinstance(error, CandidateExists):
            # What failed may be sent again, mended.
            self._finished_ids.discard(pending.candidate.candidate_id)
        message = pb.CandidateError(
            candidate_id=pending.candidate.candidate_id[:64],
            progress=pending.progress,
            status=error.to_status(),
        )
        self._answer(pending, _Event(candidate_error=message))

    def _drop(self, pending: _Pending, reason: pb.DropReason.ValueType) -> None:
        self._totals.dropped_count += 1
        message = pb.CandidateDropped(
            candidate_id=pending.candidate.candidate_id, progress=pending.progress, reason=reason
        )
        self._answer(pending, _Event(dropped=message))
        if pending.task is not None and pending.task is not asyncio.current_task():
            pending.task.cancel()


def _is_answer(event: _Event) -> bool:
    return event.WhichOneof("event") in ("critique", "candidate_error", "dropped")


def _protocol_error(message: str) -> ProtocolError:
    return ProtocolError(message, reason=pb.ERROR_REASON_STREAM_PROTOCOL)
