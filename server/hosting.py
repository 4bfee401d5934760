"""The critics of a server, each with its queue, and what they share; opens edits for their callers."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from editcritic.server.admission import NOBODY, Admission, Caller
from editcritic.server.batch_size import BatchSize
from editcritic.server.batcher import Batcher
from editcritic.server.critics import critic_name, load_critic
from editcritic.server.critics.base import Critic
from editcritic.server.decoders import IN_PROCESS, Decoder
from editcritic.server.decoding import (
    check_id,
    check_options,
    decode_edit,
    decoded_byte_count,
)
from editcritic.server.device import Devices
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.kept import EditStore, KeptEdit, RecentCritiques, edit_sha256
from editcritic.server.opened_edit import OpenedEdit
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, NotFound, ProtocolError

__all__ = ["CriticHost", "Hosts"]

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
        edits: that are open or were lately. critiques: those of the last while.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.admission = Admission(settings.max_queued, settings.max_queued_bytes)
        self.devices = Devices(settings.workers)
        self.edits = EditStore(self.admission, settings.max_kept_edit_bytes)
        self.critiques = RecentCritiques(settings.max_kept_critique_bytes)
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

    async def open(
        self, edit: pb.Edit, options: pb.CritiqueOptions, caller: Caller = NOBODY, *, remembers: bool = False
    ) -> OpenedEdit:
        """Decode an edit, unless one of the same content is kept, and begin to prepare it.

        Args:
            edit: as it came.
            options: as they came.
            caller: who has to find room for it.
            remembers: whether a candidate that is sent again under its name gets the answer that it got before.

        Raises:
            EditCriticError: the edit or the options are refused, or there is no room.
        """
        options = check_options(options)
        host = self.host(options.critic)
        name = check_id(edit.edit_id, "edit_id") if edit.edit_id else uuid.uuid4().hex
        # An edit that is being opened counts as an item, so that no stage holds an unbounded number of calls.
        with self.admission.room(1, edit.ByteSize(), caller):
            sha256 = await self.decode(edit_sha256, edit)
            kept = self.edits.find(caller.tenant, sha256) or await self._decoded(edit, sha256, caller)
        return OpenedEdit(self, host, kept, name, options, caller, remembers=remembers)

    def reopen(
        self, ref: pb.EditRef, options: pb.CritiqueOptions, caller: Caller, *, remembers: bool = False
    ) -> OpenedEdit:
        """Open an edit that is kept; arguments as in `open`.

        Raises:
            NotFound: it is not kept, or another tenant sent it.
            EditCriticError: the options are refused, or there is no room.
        """
        options = check_options(options)
        host = self.host(options.critic)
        name = check_id(ref.edit_id, "edit_ref.edit_id") if ref.edit_id else uuid.uuid4().hex
        kept = self.edits.find(caller.tenant, ref.sha256)
        if kept is None:
            raise NotFound(
                "the edit of that content is not kept here (any more); open a stream with the whole edit.",
                reason=pb.ERROR_REASON_EDIT_NOT_KEPT,
                field="open.edit_ref",
            )
        return OpenedEdit(self, host, kept, name, options, caller, remembers=remembers)

    async def _decoded(self, edit: pb.Edit, sha256: bytes, caller: Caller) -> KeptEdit:
        byte_count = await self.decode(decoded_byte_count, edit, self.settings.images)
        with self.admission.room(0, byte_count, caller):
            decoded = await self.decode(decode_edit, edit, self.settings, self.decoder)
        # Another call may have been faster.
        return self.edits.find(caller.tenant, sha256) or KeptEdit(
            caller.tenant, sha256, replace(decoded, edit_id=""), byte_count=byte_count
        )

    async def decode(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Run a decoding function off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, function, *args)


def _decoder(settings: ServerSettings) -> Decoder:
    if not settings.isolated_decoders:
        return IN_PROCESS
    # Windows lacks what confines a worker.
    from editcritic.server.decoder_pool import DecoderPool

    return DecoderPool(settings.isolated_decoders, settings.images)
