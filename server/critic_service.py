"""The gRPC face of the critics: messages in, messages out, nothing else."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import ExitStack
from importlib import metadata
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.message import Message

from editcritic.server.admission import Party, StreamLimit, party_of
from editcritic.server.callers import current_caller
from editcritic.server.critics.base import Outcome
from editcritic.server.decoding import check_id
from editcritic.server.hosting import Hosts
from editcritic.server.opened_edit import OpenedEdit
from editcritic.server.ranking import rank
from editcritic.server.session import CritiqueSession
from editcritic.server.settings import (
    MAX_COMMENT_CHARS,
    MAX_OTHERS,
    MAX_VERDICT_CRITIQUE_BYTES,
    PROTOCOL_REVISION,
)
from editcritic.server.verdicts import VerdictStore
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import EditCriticError, InvalidInput, ProtocolError, ServerUnavailable

__all__ = ["CriticService"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Candidates of one Rank that are decoded at a time, so that a long list does not hold all pictures at once.
_RANK_WINDOW = 4


class CriticService(critic_pb2_grpc.CriticServiceServicer):
    """Answers `editcritic.v1.CriticService`. Errors leave as exceptions; the guard makes statuses of them.

    Args:
        hosts: the critics.
        verdicts: where verdicts are kept; None keeps none.
    """

    def __init__(self, hosts: Hosts, verdicts: VerdictStore | None = None) -> None:
        self._hosts = hosts
        self._verdicts = verdicts
        self._sessions: weakref.WeakSet[CritiqueSession] = weakref.WeakSet()
        self._streams = StreamLimit(hosts.settings.max_streams)
        self._is_stopping = False

    @property
    def open_streams(self) -> int:
        """Streams that are open."""
        return self._streams.count

    def announce_shutdown(self, grace_s: float) -> None:
        """Tell every open stream that the server is stopping, and refuse new edits. The first time counts."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for session in self._sessions:
            session.announce_shutdown(grace_s)

    async def Critique(self, request: pb.CritiqueRequest, context: Context) -> pb.CritiqueResponse:
        """Judge one candidate."""
        _require(request, "edit", "candidate")
        progress = request.progress if request.HasField("progress") else None
        edit = await self._open(request.edit, request.options, party_of(context))
        try:
            timeout_s = context.time_remaining()
            critique = await edit.critique(request.candidate, progress, timeout_s=timeout_s)
        finally:
            edit.close()
        return pb.CritiqueResponse(critique=critique)

    async def CritiqueStream(
        self, request_iterator: AsyncIterator[pb.CritiqueStreamRequest], context: Context
    ) -> AsyncIterator[pb.CritiqueStreamResponse]:
        """Judge candidates of one edit while they are produced."""
        caller = party_of(context)
        self._streams.enter(caller)
        ending = ExitStack()
        ending.callback(self._streams.leave, caller)
        session = CritiqueSession(
            request_iterator, lambda opening: self._open_stream(opening, caller), self._hosts.settings
        )
        self._sessions.add(session)
        ending.callback(self._sessions.discard, session)
        ending.callback(session.abort)
        # A call that is cancelled while an answer is being written never enters our `finally`.
        context.add_done_callback(lambda _context: ending.close())  # type: ignore[arg-type]
        try:
            async for event in session.events():
                self._hosts.observer.event_sent(event)
                yield event
        finally:
            ending.close()

    async def Rank(self, request: pb.RankRequest, context: Context) -> pb.RankResponse:
        """Order candidates of one edit."""
        _require(request, "edit")
        names = self._check_candidates(request)
        edit = await self._open(request.edit, request.options, party_of(context))
        window = asyncio.Semaphore(current_caller().window(_RANK_WINDOW))
        try:
            outcomes = await asyncio.gather(
                *(_outcome(edit, candidate, window, context) for candidate in request.candidates)
            )
        finally:
            edit.close()
        return pb.RankResponse(ranking=rank(names, outcomes))

    async def ListCritics(self, request: pb.ListCriticsRequest, context: Context) -> pb.ListCriticsResponse:
        """Name the critics and every limit."""
        return pb.ListCriticsResponse(
            critics=self._hosts.infos(),
            limits=self._hosts.settings.limits(),
            server_version=metadata.version("editcritic"),
            protocol_revision=PROTOCOL_REVISION,
        )

    async def RecordVerdict(
        self, request: pb.RecordVerdictRequest, context: Context
    ) -> pb.RecordVerdictResponse:
        """Keep what the person did."""
        _check_verdict(request)
        if self._verdicts is None:
            raise ProtocolError(
                "this server keeps no verdicts; start it with --verdicts FILE.",
                reason=pb.ERROR_REASON_VERDICTS_NOT_KEPT,
            )
        created = await asyncio.to_thread(self._verdicts.record, request)
        return pb.RecordVerdictResponse(created=created)

    async def _open_stream(self, opening: pb.OpenEdit, caller: Party) -> OpenedEdit:
        if not opening.HasField("edit_ref"):
            return await self._open(opening.edit, opening.options, caller, remembers=True)
        self._refuse_if_stopping()
        return self._hosts.reopen(opening.edit_ref, opening.options, caller, remembers=True)

    async def _open(
        self, edit: pb.Edit, options: pb.CritiqueOptions, caller: Party, *, remembers: bool = False
    ) -> OpenedEdit:
        self._refuse_if_stopping()
        try:
            return await self._hosts.open(edit, options, caller, remembers=remembers)
        except InvalidInput as error:
            raise error if error.field.startswith("options.") else error.in_field("edit") from error

    def _refuse_if_stopping(self) -> None:
        if self._is_stopping:
            raise ServerUnavailable(
                "the server is stopping; open the edit elsewhere or a little later.",
                reason=pb.ERROR_REASON_SHUTTING_DOWN,
                retry_after_s=1.0,
            )

    def _check_candidates(self, request: pb.RankRequest) -> list[str]:
        limit = self._hosts.settings.max_candidates
        names = [
            check_id(candidate.candidate_id, "candidates.candidate_id") for candidate in request.candidates
        ]
        if not 1 <= len(names) <= limit:
            raise InvalidInput(
                f"{len(names)} candidates came; 1 to {limit} can be ranked. Use the stream for more.",
                reason=pb.ERROR_REASON_FIELD_INVALID,
                field="candidates",
            )
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise InvalidInput(
                f"candidate ids must differ, but {repeated[0]!r} came twice.",
                reason=pb.ERROR_REASON_FIELD_INVALID,
                field="candidates.candidate_id",
            )
        return names


async def _outcome(
    edit: OpenedEdit, candidate: pb.Candidate, window: asyncio.Semaphore, context: Context
) -> Outcome:
    async with window:
        try:
            return await edit.critique(candidate, None, timeout_s=context.time_remaining())
        except EditCriticError as error:
            return error


def _check_verdict(request: pb.RecordVerdictRequest) -> None:
    for name in ("verdict_id", "edit_id", "candidate_id"):
        check_id(getattr(request, name), name)
    if len(request.other_candidate_ids) > MAX_OTHERS:
        raise _invalid("other_candidate_ids", f"over {MAX_OTHERS} candidates were passed over")
    for other in request.other_candidate_ids:
        check_id(other, "other_candidate_ids")
    if request.critique.ByteSize() > MAX_VERDICT_CRITIQUE_BYTES:
        raise _invalid(
            "critique", f"the critique has over {MAX_VERDICT_CRITIQUE_BYTES:,} bytes; leave out its heat maps"
        )
    if request.kind not in pb.VerdictKind.values() or request.kind == pb.VERDICT_KIND_UNSPECIFIED:
        raise _invalid("kind", f"{request.kind} is no kind of verdict")
    if request.HasField("rating") and not 0.0 <= request.rating <= 100.0:
        raise _invalid("rating", f"the rating is {request.rating}; it must be 0 to 100")
    if len(request.comment) > MAX_COMMENT_CHARS:
        raise _invalid("comment", f"the comment has over {MAX_COMMENT_CHARS:,} characters")


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"{message}.", reason=pb.ERROR_REASON_FIELD_INVALID, field=field)


def _require(request: Message, *fields: str) -> None:
    for name in fields:
        if not request.HasField(name):
            raise InvalidInput(
                f"the request has no {name}.", reason=pb.ERROR_REASON_FIELD_MISSING, field=name
            )
