"""The loop behind gRPC: `RefineService` on the same server as the critics, whose queue and limits it shares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeAlias

import grpc.aio

from editcritic.plugin.local_runs import LocalEngines
from editcritic.plugin.runs import Engines
from editcritic.refine.journal import Journal
from editcritic.refine.request import completed_request
from editcritic.server.callers import call_as, current_caller
from editcritic.server.hosting import Hosts
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2, refine_pb2_grpc
from editcritic.v1.errors import ImageError, InvalidInput, Overloaded
from editcritic.v1.images import encode_image, encode_mask

__all__ = ["RefineService"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Event = refine_pb2.RefineResponse

_LAST_STEP_S = 20.0
_LOOK_EVERY_S = 0.05


class RefineService(refine_pb2_grpc.RefineServiceServicer):
    """Answers `editcritic.v1.RefineService`. Errors leave as exceptions; the guard makes statuses of them.

    Args:
        hosts: the server's critics.
        engines: names, folders or hub ids, the default first; behind Ray where the critics are, else in this process.
        journal: where runs are kept. options: for `load_engine`.
    """

    def __init__(
        self, hosts: Hosts, engines: Sequence[str], journal: Journal, options: Mapping[str, Any] | None = None
    ) -> None:
        self._hosts, self._journal = hosts, journal
        self._engines = _engines(hosts, engines, journal, options)
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
        if len(self._running) >= self._engines.most_runs:
            raise Overloaded(
                f"{self._engines.most_runs} edits are running, which is all that this server takes.",
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
            # A run that was left may still be in its last step: until then nobody may resume it.
            run = await self._engines.start(full, on_end=lambda: self._ended(name))
        except BaseException:
            del self._running[name]
            raise
        context.add_done_callback(lambda _context: run.leave())  # type: ignore[arg-type]
        context.add_done_callback(lambda _context: left.set())  # type: ignore[arg-type]
        async for event in run.events():
            yield _sent(event, full.events)

    async def ListEngines(
        self, request: refine_pb2.ListEnginesRequest, context: Context
    ) -> refine_pb2.ListEnginesResponse:
        """Name the engines; those that cannot be opened are left out."""
        return refine_pb2.ListEnginesResponse(engines=await self._engines.infos())

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

    def _completed(self, request: refine_pb2.RefineRequest) -> refine_pb2.RefineRequest:
        if request.resume_edit_id:
            return self._journal.request(request.resume_edit_id)
        return completed_request(request)


def _engines(
    hosts: Hosts, names: Sequence[str], journal: Journal, options: Mapping[str, Any] | None
) -> Engines:
    if hosts.settings.executor != "ray":
        return LocalEngines(hosts, names, journal, options)
    from editcritic.plugin.ray_engines import RayEngines

    return RayEngines(hosts, names, journal, options)


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
