"""A critic with its queue, and edits that are decoded and prepared once for all their candidates."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from editcritic.server.admission import NOBODY, Admission, Caller
from editcritic.server.batch_size import BatchSize
from editcritic.server.batcher import Batcher
from editcritic.server.callers import current_caller
from editcritic.server.critics import critic_name, load_critic
from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.decoders import IN_PROCESS, Decoder
from editcritic.server.decoding import check_options, decode_candidate, decode_edit, decoded_byte_count
from editcritic.server.device import Devices
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.queueing import Ticket
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded, EditCriticError, NotFound, ProtocolError

__all__ = ["CriticHost", "Hosts", "OpenedEdit"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Decoding is short and mostly outside the GIL; two threads keep a large picture from holding up small ones.
_DECODING_THREADS = 2


@dataclass(frozen=True, eq=False)
class CriticHost:
    """One critic of the server: who it is, and what waits for it."""

    info: pb.CriticInfo
    batcher: Batcher


class Hosts:
    """All critics of a server and what they share: devices, threads, room, settings.

    Args:
        settings: of the server.

    Attributes:
        devices: whose places critics and engines share.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.admission = Admission(settings.max_queued, settings.max_queued_bytes)
        self.devices = Devices(settings.workers)
        self._judging: dict[str, ThreadPoolExecutor] = {}
        self.decoder = _decoder(settings)
        threads = max(_DECODING_THREADS, settings.isolated_decoders)
        self._decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._by_name: dict[str, CriticHost] = {}

    async def load(self) -> None:
        """Load every critic of the settings. One that fails is logged and left out; the others serve."""
        await self.decode(self.decoder.start)
        for spec in self.settings.critics:
            try:
                critic = await self.decode(load_critic, spec)
                self._by_name[critic_name(spec)] = self._hosted(critic)
            except EditCriticError as error:
                _log.error("the critic %r could not be loaded: %s", spec, error.message)
            except Exception:
                _log.exception("the critic %r could not be loaded", spec)

    async def close(self) -> None:
        """Stop all queues and threads; running work is told that it is cancelled."""
        for host in self._by_name.values():
            await host.batcher.close()
        for pool in (self._decoding, *self._judging.values()):
            pool.shutdown(wait=False, cancel_futures=True)
        self.decoder.close()

    def infos(self) -> list[pb.CriticInfo]:
        """The loaded critics, the default first."""
        return [host.info for host in self._by_name.values()]

    def host(self, name: str) -> CriticHost:
        """The critic of that name; the default for an empty one.

        Raises:
            NotFound: it is not offered here.
            ProtocolError: it is offered but could not be loaded.
        """
        offered = [critic_name(spec) for spec in self.settings.critics]
        wanted = name or offered[0]
        if wanted in self._by_name:
            return self._by_name[wanted]
        if wanted in offered:
            raise ProtocolError(
                f"the critic {wanted!r} could not be loaded; the server's log says why.",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
                field="options.critic",
            )
        raise NotFound(
            f"there is no critic {wanted[:64]!r} here; offered are {', '.join(self._by_name) or 'none'}.",
            reason=pb.ERROR_REASON_CRITIC_UNKNOWN,
            field="options.critic",
        )

    def _hosted(self, critic: Critic) -> CriticHost:
        settings, info = self.settings, critic.info
        device = self.devices.device(info.device)
        pool = self._judging.setdefault(
            info.device, ThreadPoolExecutor(device.places, thread_name_prefix=f"critic-{info.device}")
        )
        size = BatchSize(min(settings.max_batch, info.batch_count), settings.batch_target_s)
        return CriticHost(info, Batcher(LocalExecutor(critic, pool), device, size, settings.batch_wait_s))

    async def open(self, edit: pb.Edit, options: pb.CritiqueOptions, caller: Caller = NOBODY) -> OpenedEdit:
        """Decode an edit and begin to prepare it.

        Args:
            edit: as it came.
            options: as they came.
            caller: who has to find room for it.

        Raises:
            EditCriticError: the edit or the options are refused, or there is no room.
        """
        options = check_options(options)
        host = self.host(options.critic)
        # An edit that is being opened counts as an item, so that no stage holds an unbounded number of calls.
        with self.admission.room(1, edit.ByteSize(), caller):
            byte_count = await self.decode(decoded_byte_count, edit, self.settings.images)
            self.admission.reserve(0, byte_count, caller)
            try:
                decoded = await self.decode(decode_edit, edit, self.settings, self.decoder)
            except BaseException:
                self.admission.release(0, byte_count, caller)
                raise
        return OpenedEdit(self, host, decoded, options, byte_count, caller)

    async def decode(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Run a decoding function off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, function, *args)


def _decoder(settings: ServerSettings) -> Decoder:
    if not settings.isolated_decoders:
        return IN_PROCESS
    # Windows lacks what confines a worker.
    from editcritic.server.decoder_pool import DecoderPool

    return DecoderPool(settings.isolated_decoders, settings.images)


class OpenedEdit:
    """An edit in memory: decoded once, prepared once, judged for any number of candidates.

    Holds room in the server's admission until `close`.
    """

    def __init__(
        self,
        hosts: Hosts,
        host: CriticHost,
        edit: DecodedEdit,
        options: pb.CritiqueOptions,
        byte_count: int,
        caller: Caller,
    ) -> None:
        self.host = host
        self.edit = edit
        self._caller = caller
        self._hosts = hosts
        self._options = options
        self._byte_count = byte_count
        self._prepared: asyncio.Future[Any] = asyncio.ensure_future(host.batcher.prepare(edit))
        # Nobody may ever ask for it; a failure nobody saw is no news for the log.
        self._prepared.add_done_callback(lambda done: done.cancelled() or done.exception())

    def close(self) -> None:
        """Give the edit's room back. Safe to call twice."""
        self._prepared.cancel()
        self._hosts.admission.release(0, self._byte_count, self._caller)
        self._byte_count = 0

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
            with current_caller().item():
                return await asyncio.wait_for(
                    self._critique(candidate, progress, deadline, on_ticket), min(allowed)
                )
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
        expected = self.edit.source.nbytes
        with hosts.admission.room(1, expected, self._caller):
            with self.host.batcher.expecting():
                byte_count = await hosts.decode(decoded_byte_count, candidate, hosts.settings.images)
                with hosts.admission.room(0, max(0, byte_count - expected), self._caller):
                    decoded = await hosts.decode(
                        decode_candidate, candidate, progress, self.edit.source, hosts.settings, hosts.decoder
                    )
            decoded_at = time.monotonic()
            critique = await self._submit(decoded, deadline, on_ticket)
        critique.timings.decode_ms = (decoded_at - began) * 1000
        return critique

    async def _submit(
        self, decoded: DecodedCandidate, deadline: float, on_ticket: Callable[[Ticket], None]
    ) -> pb.Critique:
        began = time.monotonic()
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
