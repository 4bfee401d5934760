"""The loop behind gRPC: `RefineService` on the same server as the critics, whose queue and limits it shares."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias

import grpc.aio

from editcritic.plugin.steering import steerable
from editcritic.plugin.traced import traced_steps
from editcritic.refine.engine import Engine, load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.request import completed_request
from editcritic.server.callers import call_as, current_caller
from editcritic.server.hosting import Hosts
from editcritic.server.opened_edit import OpenedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2, refine_pb2_grpc
from editcritic.v1.errors import EditCriticError, ImageError, InvalidInput, NotFound, Overloaded
from editcritic.v1.images import encode_image, encode_mask

__all__ = ["RefineService"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Event = refine_pb2.RefineResponse

_MAX_RUNS = 4
_LAST_STEP_S = 20.0
_LOOK_EVERY_S = 0.05
_UNREAD_EVENTS = 16  # events that wait for a slow client before the run waits with them


class RefineService(refine_pb2_grpc.RefineServiceServicer):
    """Answers `editcritic.v1.RefineService`. Errors leave as exceptions; the guard makes statuses of them.

    Args:
        hosts: the server's critics. engines: names, folders or hub ids, the default first; loaded when first asked for.
        journal: where runs are kept. options: for `load_engine`.
    """

    def __init__(
        self, hosts: Hosts, engines: Sequence[str], journal: Journal, options: dict[str, Any] | None = None
    ) -> None:
        self._hosts, self._names, self._journal = hosts, tuple(engines), journal
        self._options = options or {}
        self._loaded: dict[str, Engine] = {}
        self._loading = threading.Lock()
        self._running: dict[str, asyncio.Event] = {}
        """Set once nobody follows a run any more, which may still be in its last step."""

    async def Refine(self, request: refine_pb2.RefineRequest, context: Context) -> AsyncIterator[_Event]:
        """Run the loop on one edit; the call's end is the run's end."""
        if self._hosts.settings.isolated_decoders:
            request = await self._hosts.decode(_decoded_apart, request, self._hosts)
        full = await asyncio.to_thread(self._completed, request)
        name = full.edit.edit_id
        await self._left_behind(name)
        if name in self._running:
            raise InvalidInput(
                f"the edit {name!r} is running.", reason=pb.ERROR_REASON_FIELD_INVALID, field="edit.edit_id"
            )
        if len(self._running) >= _MAX_RUNS:
            raise Overloaded(
                f"{_MAX_RUNS} edits are running, which is all that this server takes.",
                reason=pb.ERROR_REASON_QUEUE_FULL,
                retry_after_s=5.0,
            )
        # A call that is cancelled while an event is being written never enters a `finally` of ours.
        held = ExitStack()
        context.add_done_callback(lambda _context: held.close())  # type: ignore[arg-type]
        held.enter_context(current_caller().item())
        # The run was counted as a whole, so its candidates are not.
        call_as(current_caller().unmetered())
        left = self._running[name] = asyncio.Event()
        try:
            run = await asyncio.to_thread(self._start, full, asyncio.get_running_loop())
        except BaseException:
            del self._running[name]
            raise
        # A run that was left may still be in its last step: until then nobody may resume it.
        thread = _RunThread(run, on_end=lambda: self._ended(name))
        context.add_done_callback(lambda _context: thread.leave())  # type: ignore[arg-type]
        context.add_done_callback(lambda _context: left.set())  # type: ignore[arg-type]
        async for event in thread.events():
            yield _sent(event, full.events)

    async def ListEngines(
        self, request: refine_pb2.ListEnginesRequest, context: Context
    ) -> refine_pb2.ListEnginesResponse:
        """Name the engines; those that cannot be opened are left out."""
        infos = []
        for name in self._names:
            try:
                engine = await asyncio.to_thread(self._engine, name)
            except EditCriticError:
                continue
            infos.append(engine.capabilities.to_info(device=self._options.get("device", "")))
        return refine_pb2.ListEnginesResponse(engines=infos)

    async def GetEdit(
        self, request: refine_pb2.GetEditRequest, context: Context
    ) -> refine_pb2.GetEditResponse:
        """One edit of the journal."""
        kept = await asyncio.to_thread(self._journal.request, request.edit_id)
        events = await asyncio.to_thread(self._journal.events, request.edit_id)
        return refine_pb2.GetEditResponse(edit=kept.edit, events=events)

    async def ListEdits(
        self, request: refine_pb2.ListEditsRequest, context: Context
    ) -> refine_pb2.ListEditsResponse:
        """A page of the journal, newest first."""
        return await asyncio.to_thread(self._journal.edits, request.page_size, request.page_token)

    def _ended(self, name: str) -> None:
        del self._running[name]

    async def _left_behind(self, name: str) -> None:
        """Wait for the last step of a run that its caller left: who comes back at once is to find it free."""
        left = self._running.get(name)
        for _ in range(round(_LAST_STEP_S / _LOOK_EVERY_S)):
            if left is None or not left.is_set() or self._running.get(name) is not left:
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    def _start(self, request: refine_pb2.RefineRequest, loop: asyncio.AbstractEventLoop) -> Refinement:
        engine = self._engine(request.sampling.engine)
        search = _HostedCritic(self._hosts, request.critique, loop)
        held_out = _HostedCritic(self._hosts, request.acceptance, loop)
        acceptance = held_out if request.HasField("acceptance") else None
        return Refinement(engine, search, request, self._journal, acceptance)

    def _completed(self, request: refine_pb2.RefineRequest) -> refine_pb2.RefineRequest:
        if request.resume_edit_id:
            return self._journal.request(request.resume_edit_id)
        return completed_request(request)

    def _engine(self, name: str) -> Engine:
        wanted = name or self._names[0]
        # A client may not have the server open folders or download models that its owner did not name.
        if wanted not in self._names:
            raise NotFound(
                f"there is no engine {wanted[:64]!r} here; offered are {', '.join(self._names)}.",
                reason=pb.ERROR_REASON_ENGINE_UNKNOWN,
                field="sampling.engine",
            )
        with self._loading:
            if wanted not in self._loaded:
                engine = load_engine(wanted, shared=self._hosts.devices.refining, **self._options)
                self._loaded[wanted] = steerable(engine)
            return self._loaded[wanted]


def _decoded_apart(request: refine_pb2.RefineRequest, hosts: Hosts) -> refine_pb2.RefineRequest:
    """The request with its pictures written anew from pixels, so that the loop meets no file of a stranger."""
    own = refine_pb2.RefineRequest()
    own.CopyFrom(request)
    for name in ("source", "denoise_mask", "blend_mask"):
        if not own.edit.HasField(name):
            continue
        image, decoder, limits = getattr(own.edit, name), hosts.decoder, hosts.settings.images
        try:
            is_mask = name != "source"
            anew = (
                encode_mask(decoder.mask(image, limits))
                if is_mask
                else encode_image(decoder.picture(image, limits))
            )
        except ImageError as error:
            raise error.in_field(f"edit.{name}") from error
        image.CopyFrom(anew)
    return own


class _HostedCritic:
    """The server's own critic for a loop in another thread."""

    def __init__(self, hosts: Hosts, options: pb.CritiqueOptions, loop: asyncio.AbstractEventLoop) -> None:
        self._hosts, self._options, self._loop = hosts, options, loop

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[_HostedJudge]:
        opened = asyncio.run_coroutine_threadsafe(self._hosts.open(edit, self._options), self._loop).result()
        try:
            yield _HostedJudge(opened, self._loop)
        finally:
            self._loop.call_soon_threadsafe(opened.close)


class _HostedJudge:
    def __init__(self, opened: OpenedEdit, loop: asyncio.AbstractEventLoop) -> None:
        self._opened, self._loop = opened, loop
        self.identity = opened.host.info.identity

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        waiting: Future[pb.Critique] = asyncio.run_coroutine_threadsafe(
            self._opened.critique(candidate, progress), self._loop
        )
        return waiting.result()


class _RunThread:
    """A run in a thread of its own, at most some events ahead of whoever reads them.

    on_end: called on the event loop once the thread is done.
    """

    def __init__(self, run: Refinement, on_end: Callable[[], None]) -> None:
        self._run, self._on_end = run, on_end
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[_Event | BaseException | None] = asyncio.Queue(_UNREAD_EVENTS)
        self._left = threading.Event()
        # In the caller's context, so that the critics know whose run it is.
        work = partial(copy_context().run, self._work)
        threading.Thread(target=work, daemon=True, name="refinement").start()

    def leave(self) -> None:
        """Stop after the present step; what was done is in the journal. Safe to call twice."""
        self._left.set()
        self._run.cancel()

    async def events(self) -> AsyncIterator[_Event]:
        """What happens, until the run is over. Raises: what the run raises."""
        while (item := await self._events.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _work(self) -> None:
        try:
            for event in traced_steps(self._run.run()):
                self._put(event)
                if self._left.is_set():
                    break
            self._put(None)
        except BaseException as error:  # handed to the caller's task by `events`
            self._put(error)
        finally:
            self._loop.call_soon_threadsafe(self._on_end)

    def _put(self, item: _Event | BaseException | None) -> None:
        waiting = asyncio.run_coroutine_threadsafe(self._events.put(item), self._loop)
        while not (waiting.done() or self._left.is_set()):
            wait([waiting], timeout=0.2)
        if self._left.is_set():
            waiting.cancel()


def _sent(event: _Event, options: refine_pb2.RefineEventOptions) -> _Event:
    """The event without the pictures that were not asked for."""
    lean = _Event()
    lean.CopyFrom(event)
    if not options.preview_images and lean.HasField("preview"):
        lean.preview.ClearField("image")
        lean.preview.ClearField("region")
    if not options.heat_maps:
        for critique in (lean.critique, lean.result.critique, lean.result.acceptance_critique):
            if critique.heat_maps:
                critique.ClearField("heat_maps")
    return lean
