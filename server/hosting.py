"""The critics of a server, each with its queue, and what they share; opens edits for their callers."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from editcritic.server.admission import NOBODY, Admission, Party
from editcritic.server.batch_size import BatchSize
from editcritic.server.batcher import Batcher, Executor
from editcritic.server.critic_hosting import IN_SERVER
from editcritic.server.critics import check_spec, critic_name, load_critic
from editcritic.server.decoders import IN_PROCESS, Decoder
from editcritic.server.decoding import (
    check_id,
    check_options,
    decode_edit,
    decoded_byte_count,
)
from editcritic.server.device import Device, Devices
from editcritic.server.executors.hosted import Vitals
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.executors.opening import hosted_executor
from editcritic.server.executors.ray_cluster import RayCluster
from editcritic.server.kept import EditStore, KeptEdit, RecentCritiques, edit_sha256
from editcritic.server.observing import ObservedExecutor, Observers
from editcritic.server.opened_edit import OpenedEdit
from editcritic.server.reloading import retire, warm_up
from editcritic.server.settings import DECODING_TIMEOUT_S, ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, NotFound, ProtocolError, ServerUnavailable

__all__ = ["CriticHost", "Hosts"]

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# Decoding is short and mostly outside the GIL; two threads keep a large picture from holding up small ones.
_DECODING_THREADS = 2
LOADING_RETRY_S = 2.0


async def _nothing() -> None:
    pass


async def _tell_nobody(_name: str, _is_ready: bool) -> None:
    pass


@dataclass(frozen=True, eq=False)
class CriticHost:
    """One critic of the server: who it is, and what waits for it.

    Attributes:
        info: who it is.
        batcher: what waits for it.
        spec: what it was loaded as.
        load_number: of the server's loads, from 1.
        edits: those that are open with it.
        vitals: of a model that comes and goes.
        release: lets go of what the batcher's executor holds in this process, once nothing runs.
        let_go: leave what it has beyond this process.
    """

    info: pb.CriticInfo
    batcher: Batcher
    spec: str = ""
    load_number: int = 0
    edits: set[OpenedEdit] = field(default_factory=set)
    vitals: Vitals = field(default_factory=Vitals)
    release: Callable[[], Awaitable[None]] = _nothing
    let_go: Callable[[], Awaitable[None]] = _nothing

    @property
    def key(self) -> str:
        """Tells it from every other, also from what was loaded under the same name before."""
        return f"{self.info.identity.name}#{self.load_number}"

    async def close(self) -> None:
        """Stop what runs, and let go of the model. Safe to call twice."""
        await self.batcher.close()
        await self.release()


class Hosts:
    """All critics of a server and what they share: devices, threads, room, settings.

    Args:
        settings: of the server.

    Raises:
        SettingsError: what its executor needs is not installed.

    Attributes:
        devices: whose places critics and engines share.
        edits: that are open or were lately. critiques: those of the last while.
        observer: told of every candidate and every batch.
        tell_health: told a critic's name and whether new edits may go to it, whenever that changes.
        cluster: where critics are deployed, with the executor "ray"; engines may be too.
        also_load: what else is to be loaded with the critics, after them.
        lost: set once a device broke for good, after which the process can only be started anew.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.observer = Observers()
        self.lost = asyncio.Event()
        self.also_load: list[Callable[[], Awaitable[None]]] = []
        self.tell_health: Callable[[str, bool], Awaitable[None]] = _tell_nobody
        self.admission = Admission(settings.max_queued, settings.max_queued_bytes)
        self.devices = Devices(settings.workers)
        self.edits = EditStore(self.admission, settings.max_kept_edit_bytes)
        self.critiques = RecentCritiques(settings.max_kept_critique_bytes)
        self._judging: dict[str, ThreadPoolExecutor] = {}
        self.decoder = _decoder(settings)
        threads = max(_DECODING_THREADS, settings.isolated_decoders)
        self._decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._by_name: dict[str, CriticHost] = {}
        self._waiting = {critic_name(spec) for spec in settings.critics}
        self._leaving: dict[CriticHost, asyncio.Task[None]] = {}
        self._load_count = 0
        self.cluster = _cluster(settings)
        self._telling: set[asyncio.Future[None]] = set()

    async def load(self) -> None:
        """Load every critic of the settings. One that fails is logged and left out; the others serve.

        Raises:
            SettingsError: the cluster that they are to run in is not there.
        """
        await self.decode(self.decoder.start)
        if self.cluster is not None:
            await self.cluster.connect()
        for spec in self.settings.critics:
            try:
                await self.offer(spec)
            except EditCriticError as error:
                _log.error("the critic %r could not be loaded: %s", spec, error.message)
            except Exception:
                _log.exception("the critic %r could not be loaded", spec)
        for load in self.also_load:
            await load()

    async def offer(self, spec: str) -> CriticHost:
        """Load a critic and warm it; then new edits go to it, and one of the same name finishes what it has and leaves.

        Raises:
            EditCriticError: there is none of that name, or it failed; then everything stays as it was.
        """
        name = check_spec(spec).name
        self._waiting.add(name)
        try:
            await self.tell_health(name, name in self._by_name)
            host = await self._loaded(spec)
            try:
                await (warm_up(host) if self.settings.warm_up else asyncio.sleep(0))
            except BaseException:
                await host.close()
                await host.let_go()
                raise
        finally:
            self._waiting.discard(name)
        old = self._by_name.get(name)
        self._by_name[name] = host
        self._dismiss(old)
        await self.tell_health(name, True)
        _log.info("the critic %s %s serves (%s)", name, host.info.identity.version, spec)
        return host

    async def withdraw(self, name: str) -> None:
        """Take a critic out; it finishes what it has and leaves.

        Raises:
            NotFound: it is not offered.
            ProtocolError: it is the default.
        """
        host = self.host(name)
        if not name or name == critic_name(self.settings.critics[0]):
            raise ProtocolError(
                "the default critic can be replaced, not unloaded.",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
                field="name",
            )
        await self.tell_health(name, False)
        del self._by_name[name]
        self._dismiss(host)

    def _dismiss(self, host: CriticHost | None) -> None:
        if host is not None:
            self._leaving[host] = task = asyncio.create_task(retire(host))
            task.add_done_callback(lambda _done: self._forget(host))

    def _forget(self, host: CriticHost) -> None:
        self._leaving.pop(host, None)
        self.edits.forget(host.key)

    async def close(self) -> None:
        """Stop all queues and threads; running work is told that it is cancelled."""
        for task in list(self._leaving.values()):
            task.cancel()
        for host in (*self._by_name.values(), *self._leaving):
            await host.close()
        if self.cluster is not None:
            await self.cluster.close()
        for pool in (self._decoding, *self._judging.values()):
            pool.shutdown(wait=False, cancel_futures=True)
        self.decoder.close()

    def all(self) -> list[CriticHost]:
        """The critics that serve, the default first."""
        return list(self._by_name.values())

    def leaving(self) -> list[CriticHost]:
        """Critics that were replaced or unloaded and finish what is open."""
        return list(self._leaving)

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
        if wanted in self._waiting:
            raise ServerUnavailable(
                f"the critic {wanted!r} is being loaded; try again in a moment.",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
                retry_after_s=LOADING_RETRY_S,
            )
        if wanted in offered:
            raise ProtocolError(
                f"the critic {wanted!r} is not loaded; the server's log says why.",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
                field="options.critic",
            )
        raise NotFound(
            f"there is no critic {wanted[:64]!r} here; offered are {', '.join(self._by_name) or 'none'}.",
            reason=pb.ERROR_REASON_CRITIC_UNKNOWN,
            field="options.critic",
        )

    async def _loaded(self, spec: str) -> CriticHost:
        if self.cluster is not None:
            remote = await self.cluster.open(spec)
            remote.info.state = pb.CRITIC_STATE_AWAKE
            places = Device(remote.places)
            return self._host(spec, remote.info, remote.executor, places, let_go=remote.let_go)
        hosting = self.settings.hosting_of(critic_name(spec))
        if hosting == IN_SERVER:
            critic = await asyncio.to_thread(load_critic, spec)
            info = pb.CriticInfo()
            info.CopyFrom(critic.info)
            info.state = pb.CRITIC_STATE_AWAKE
            executor = LocalExecutor(critic, self._pool(info.device), self._lost_teller())
            return self._host(spec, info, executor, self.devices.device(info.device))
        hosted = hosted_executor(spec, hosting, self.settings, self.devices, self._pool)
        await hosted.start()
        # It takes its turns on the device itself, as it would hold a place while its model is loaded.
        lane = Device(self.devices.device(hosted.info.device).places)
        host = self._host(spec, hosted.info, hosted, lane, vitals=hosted.vitals, release=hosted.close)
        hosted.on_health = partial(self._health_changed, host)
        return host

    def _host(
        self, spec: str, info: pb.CriticInfo, executor: Executor, device: Device, **more: Any
    ) -> CriticHost:
        settings = self.settings
        self._load_count += 1
        size = BatchSize(min(settings.max_batch, info.batch_count), settings.batch_target_s)
        observed = ObservedExecutor(executor, info.identity.name, self.observer)
        batcher = Batcher(observed, device, size, settings.batch_wait_s)
        return CriticHost(info, batcher, spec, self._load_count, **more)

    def _pool(self, device: str) -> ThreadPoolExecutor:
        """The threads that judge on a device."""
        if device not in self._judging:
            places = self.devices.device(device).places
            self._judging[device] = ThreadPoolExecutor(places, thread_name_prefix=f"critic-{device}")
        return self._judging[device]

    def _lost_teller(self) -> Callable[[], None]:
        """What a thread calls when a device broke for good."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(self.lost.set)

        return tell

    def _health_changed(self, host: CriticHost, is_ready: bool) -> None:
        name = host.info.identity.name
        if self._by_name.get(name) is host:
            telling = asyncio.ensure_future(self.tell_health(name, is_ready))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def open(
        self, edit: pb.Edit, options: pb.CritiqueOptions, caller: Party = NOBODY, *, remembers: bool = False
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
        self.host(options.critic)  # refuses before any work
        name = check_id(edit.edit_id, "edit_id") if edit.edit_id else uuid.uuid4().hex
        # An edit that is being opened counts as an item, so that no stage holds an unbounded number of calls.
        with self.admission.room(1, edit.ByteSize(), caller):
            sha256 = await self.decode(edit_sha256, edit)
            kept = self.edits.find(caller.tenant, sha256) or await self._decoded(edit, sha256, caller)
        # Not before: one that was replaced meanwhile may have left.
        host = self.host(options.critic)
        return OpenedEdit(self, host, kept, name, options, caller, remembers=remembers)

    def reopen(
        self, ref: pb.EditRef, options: pb.CritiqueOptions, caller: Party, *, remembers: bool = False
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

    async def _decoded(self, edit: pb.Edit, sha256: bytes, caller: Party) -> KeptEdit:
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


def _cluster(settings: ServerSettings) -> RayCluster | None:
    return RayCluster(settings) if settings.executor == "ray" else None


def _decoder(settings: ServerSettings) -> Decoder:
    if not settings.isolated_decoders:
        return IN_PROCESS
    # Windows lacks what confines a worker.
    from editcritic.server.decoder_pool import DecoderPool

    return DecoderPool(settings.isolated_decoders, settings.images, timeout_s=DECODING_TIMEOUT_S)
