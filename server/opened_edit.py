"""An edit that a caller has open, and the way of its candidates: room, decoding, preparation, the queue.

Every candidate of the server, of a call, a stream or the loop, comes through `OpenedEdit.critique`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from editcritic.server.admission import Party
from editcritic.server.callers import current_caller
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate
from editcritic.server.decoding import decode_candidate, decode_within, is_light
from editcritic.server.digest import LateDigest
from editcritic.server.kept import KeptEdit, content_sha256
from editcritic.server.observing import observed_item
from editcritic.server.queueing import Ticket
from editcritic.server.time_limit import time_limit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded, ServerUnavailable

if TYPE_CHECKING:
    from editcritic.server.hosting import CriticHost, Hosts

__all__ = ["OpenedEdit"]


class OpenedEdit:
    """An edit that somebody has open; judged for any number of candidates.

    Holds room in the server's admission until `close`.

    Raises:
        Overloaded: there is no room.
    """

    def __init__(
        self,
        hosts: Hosts,
        host: CriticHost,
        kept: KeptEdit,
        name: str,
        options: pb.CritiqueOptions,
        caller: Party,
        *,
        remembers: bool,
    ) -> None:
        self.host = host
        self.edit = replace(kept.edit, edit_id=name)
        self.sha256 = kept.sha256
        self._hosts, self._caller, self._options = hosts, caller, options
        self._leaving = ExitStack()
        hosts.edits.open(kept, caller)
        self._leaving.callback(hosts.edits.close, kept)
        host.edits.add(self)
        self._leaving.callback(host.edits.discard, self)
        self._canvas = kept.canvas
        self._prepare = partial(kept.prepare, host.key, host.batcher)
        self._prepared = self._prepare()
        told = options.SerializeToString(deterministic=True)
        self._key = (caller.tenant, name, kept.sha256, host.key, told) if remembers else ()

    def close(self) -> None:
        """Give the edit's room back. Safe to call twice."""
        self._leaving.close()

    @observed_item
    async def critique(
        self,
        candidate: pb.Candidate,
        progress: pb.DenoisingProgress | None,
        *,
        timeout_s: float | None = None,
        on_ticket: Callable[[Ticket], None] = lambda _ticket: None,
    ) -> pb.Critique:
        """Judge one candidate; cancelling the wait takes the work back.

        Args:
            candidate: as it came.
            progress: set for a preview.
            timeout_s: time that the caller has left; None means as long as the server allows.
            on_ticket: told the candidate's place in the queue once it has one.

        Raises:
            EditCriticError: why it could not be judged.
        """
        allowed = [self._hosts.settings.max_budget_s]
        allowed += [self._options.budget_ms / 1000] if self._options.budget_ms else []
        allowed += [timeout_s] if timeout_s is not None else []
        deadline = time.monotonic() + min(allowed)
        try:
            with current_caller().item(), time_limit(min(allowed)):
                return await self._critique(candidate, progress, deadline, on_ticket)
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded(
                f"the candidate was not judged within {min(allowed):.3g} s.",
                reason=pb.ERROR_REASON_BUDGET_EXCEEDED,
            ) from error

    async def _critique(
        self,
        candidate: pb.Candidate,
        progress: pb.DenoisingProgress | None,
        deadline: float,
        on_ticket: Callable[[Ticket], None],
    ) -> pb.Critique:
        hosts, began = self._hosts, time.monotonic()
        # A crop is pasted into a copy of the whole source. Reserved before any work, so that refusals are cheap.
        with hosts.admission.room(1, self.edit.source.nbytes, self._caller):
            with self.host.batcher.expecting():
                known = await self._recall(candidate, progress)
                if known is not None:
                    return known
                decoded = await self._decode(candidate, progress)
            decoded_at = time.monotonic()
            with self._remembering(candidate, progress) as remember:
                critique = await self._submit(decoded, deadline, on_ticket)
                critique.timings.decode_ms = (decoded_at - began) * 1000
                await remember(critique)
        return critique

    async def _decode(
        self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None
    ) -> DecodedCandidate:
        """In one go when the picture is no larger than the source, whose room is taken; else once there is more."""
        hosts, source = self._hosts, self.edit.source
        how = (candidate, progress, source, hosts.settings, hosts.decoder)
        if is_light(candidate, source):
            return decode_candidate(*how, copied=self._canvas.take)
        decoded = await hosts.decode(decode_within, source.nbytes, *how)
        if isinstance(decoded, int):
            with hosts.admission.room(0, decoded - source.nbytes, self._caller):
                decoded = await hosts.decode(decode_candidate, *how)
        return decoded

    def _name(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None) -> tuple[object, ...]:
        told = progress.SerializeToString(deterministic=True) if progress is not None else None
        return (*self._key, candidate.candidate_id, told)

    async def _recall(
        self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None
    ) -> pb.Critique | None:
        """What was answered before."""
        name, critiques = self._name(candidate, progress), self._hosts.critiques
        if not self._key or not critiques.knows(name):
            return None
        return critiques.find(name, await self._hosts.decode(content_sha256, candidate))

    @contextmanager
    def _remembering(
        self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None
    ) -> Iterator[Callable[[pb.Critique], Awaitable[None]]]:
        """What keeps the critique. The content is hashed while the candidate is judged, so that nobody waits for it."""
        if not self._key:
            yield _forget
            return
        digest = LateDigest(candidate, self._hosts.decode, self._canvas.refill)

        async def remember(critique: pb.Critique) -> None:
            self._hosts.critiques.keep(self._name(candidate, progress), await digest.value(), critique)

        with closing(digest):
            yield remember

    async def _submit(
        self, decoded: DecodedCandidate, deadline: float, on_ticket: Callable[[Ticket], None]
    ) -> pb.Critique:
        began = time.monotonic()
        if self._prepared.done() and isinstance(self._prepared.exception(), ServerUnavailable):
            # A critic that could not be woken may be by now.
            self._prepared = self._prepare()
        # Shielded: one candidate that gives up must not take the preparation from the others.
        prepared = await asyncio.shield(self._prepared)
        prepare_s = time.monotonic() - began
        task = CritiqueTask(self.edit, prepared, decoded, self._options)
        ticket = Ticket(task, self._caller, deadline)
        on_ticket(ticket)
        critique = await self.host.batcher.submit(ticket)
        critique.candidate_id = decoded.candidate_id
        if decoded.progress is not None:
            critique.progress.CopyFrom(decoded.progress)
        critique.timings.prepare_ms = prepare_s * 1000
        return critique


async def _forget(_critique: pb.Critique) -> None:
    pass
