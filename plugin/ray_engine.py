"""A replica: one process of Ray Serve that holds an engine and carries out runs for any number of fronts.

It has no journal and no critic of its own. What a run writes to its journal, and what it asks of critics, goes to its
front as items of one stream, in order; the front journals each event before the next item, judges, and puts the
answer into its mailbox, where the run waits for it. So all that is kept is with the front, and a run whose replica died
goes on in another from there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from editcritic.plugin.ray_items import Answer, Item, Question, RunOrder, put_up_notice
from editcritic.plugin.steering import steerable
from editcritic.refine.engine import load_engine
from editcritic.refine.loop import Refinement
from editcritic.refine.preview_table import Group
from editcritic.server.executors.ray_wire import error_of
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import Cancelled, EditCriticError, ServerFault, ServerUnavailable

__all__ = ["EngineReplica", "StoppingDevice"]

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.05


class StoppingDevice:
    """What an engine takes its turns by, so that a run which was left ends after the denoising step that it is in.

    Several runs in one process take turns already; this has nobody wait.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._is_left: Callable[[], bool] = _never

    @contextmanager
    def used_by(self, is_left: Callable[[], bool]) -> Iterator[None]:
        """Name the run of this thread by whether it was left."""
        self._of_thread.is_left = is_left
        try:
            yield
        finally:
            self._of_thread.is_left = _never

    @property
    def is_wanted(self) -> bool:
        """Asked between two steps, in whatever thread they run. Raises: Cancelled when the run was left."""
        if self._is_left():
            raise Cancelled("nobody waits for this edit any more")
        return False

    def __enter__(self) -> None:
        """One run at a time comes here, in its own thread."""
        self._is_left = getattr(self._of_thread, "is_left", _never)

    def __exit__(self, *_raised: object) -> None:
        """The next run may come."""
        self._is_left = _never


class EngineReplica:
    """One engine in this process; wrapped into a Serve deployment by `ray_engines`.

    Args:
        name: as for `load_engine`.
        options: for `load_engine`.
        fingerprint: of the settings that it was deployed with.
        application: that it belongs to, where fronts look for who it is; empty for none.

    Raises:
        EditCriticError: the engine cannot be loaded; Serve tries again, then gives up.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], fingerprint: str, application: str = ""
    ) -> None:
        self._device, self._fingerprint = StoppingDevice(), fingerprint
        self._engine = steerable(load_engine(name, shared=lambda _device: self._device, **options))
        told = self._engine.capabilities.to_info(device=str(options.get("device", "")))
        self._info: bytes = told.SerializeToString()
        if application:
            put_up_notice(application, self._info, fingerprint)

    async def description(self) -> tuple[bytes, str]:
        """The engine's `EngineInfo`, serialized, and the fingerprint of the deployment."""
        return self._info, self._fingerprint

    async def run(self, order: RunOrder) -> AsyncIterator[Item]:
        """Carry out a run; cancelling the call stops it after its present denoising step."""
        session = _Session(order)
        threading.Thread(target=self._work, args=(session,), daemon=True, name="refinement").start()
        try:
            while True:
                item = await session.items.get()
                yield item
                if item[1] in ("end", "error"):
                    return
        finally:
            session.leave()

    def _work(self, session: _Session) -> None:
        try:
            with self._device.used_by(session.left.is_set):
                session.work(self._engine)
            session.tell("end", None)
        except _Left:
            pass
        except BaseException as error:
            session.fail(error)


class _Left(BaseException):
    """Raised where a run meets its front, to end it at once; nothing in the loop catches it."""


class _Session:
    """One attempt at a run: the journal and the critics of `Refinement`, which has a thread of its own.

    items: for the front, in order. left: set once nobody waits.
    """

    def __init__(self, order: RunOrder) -> None:
        self._order, self._loop = order, asyncio.get_running_loop()
        self.items: asyncio.Queue[Item] = asyncio.Queue()
        self.left = threading.Event()
        self._run: Refinement | None = None
        self._kept, self._asked = 0, 0

    def work(self, engine: Any) -> None:
        """Carry it out. Raises: what the run raises."""
        order = self._order
        search = _AskedCritic(self, order.search, is_held_out=False)
        held_out = (
            _AskedCritic(self, order.held_out, is_held_out=True) if order.held_out is not None else None
        )
        request = refine_pb2.RefineRequest.FromString(order.request)
        self._run = Refinement(engine, search, request, self, held_out)
        for event in self._run.run():
            if event.sequence != self._kept:
                # Replayed, or the result of a run that can be resumed.
                self.tell("event", (event.SerializeToString(), False))

    def leave(self) -> None:
        """Stop; safe from any thread, and to call twice."""
        self.left.set()
        if self._run is not None:
            self._run.cancel()

    def tell(self, kind: Any, payload: Any) -> None:
        """Send the front an item."""
        if self.left.is_set():
            raise _Left
        self._loop.call_soon_threadsafe(self.items.put_nowait, (self._order.name, kind, payload))

    def fail(self, error: BaseException) -> None:
        """Tell the front why the run ended."""
        if not isinstance(error, EditCriticError):
            incident = uuid.uuid4().hex[:12]
            _log.error("incident %s: a run failed", incident, exc_info=error)
            error = ServerFault(
                f"the run failed (incident {incident}).",
                reason=pb.ERROR_REASON_INTERNAL,
                metadata={"incident": incident},
            )
        if not self.left.is_set():
            self.tell("error", error.to_status().SerializeToString())

    def ask(
        self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None, is_held_out: bool
    ) -> pb.Critique:
        """Have the front's critic judge. Raises: EditCriticError as it does."""
        self._asked += 1
        told = None if progress is None else progress.SerializeToString()
        self.tell("question", Question(self._asked, is_held_out, candidate.SerializeToString(), told))
        is_judged, data = self._answer()
        if not is_judged:
            raise error_of(data)
        return pb.Critique.FromString(data)

    def _answer(self) -> Answer:
        import ray

        waiting = self._order.mailbox.take.remote(self._order.name, self._asked)
        while not ray.wait([waiting], timeout=_LOOK_EVERY_S)[0]:
            if self.left.is_set():
                ray.cancel(waiting)
                raise _Left
        try:
            answer: Answer = ray.get(waiting)
        except ray.exceptions.RayActorError as error:
            raise ServerUnavailable(
                "the way back to this run was lost; what was done is kept: resume the edit.",
                reason=pb.ERROR_REASON_ENGINE_UNAVAILABLE,
                retry_after_s=1.0,
            ) from error
        return answer

    def begin(self, _edit_id: str, _request: refine_pb2.RefineRequest) -> None:
        """As a `RunJournal`: the front begins the edit, and ends this run where it may not."""
        self.tell("begin", None)

    def append(self, _edit_id: str, event: refine_pb2.RefineResponse) -> None:
        """As a `RunJournal`: the front keeps the event before it looks at what comes after."""
        self._kept = event.sequence
        self.tell("event", (event.SerializeToString(), True))

    def events(self, _edit_id: str) -> list[refine_pb2.RefineResponse]:
        """As a `RunJournal`: what the front had when this attempt began."""
        return [refine_pb2.RefineResponse.FromString(event) for event in self._order.past]

    def keep_previews(self, _edit_id: str, learned_by: str, group: Group) -> None:
        """As a `RunJournal`."""
        self.tell("previews", (learned_by, group))

    def previews(self, learned_by: str) -> list[Group]:
        """As a `RunJournal`: what the front had when this attempt began."""
        return list(self._order.previews.get(learned_by, ()))


class _AskedCritic:
    """A critic of the front's; the edit is open there as long as the run."""

    def __init__(self, session: _Session, identity: bytes, *, is_held_out: bool) -> None:
        self._session, self._is_held_out = session, is_held_out
        self.identity = pb.CriticIdentity.FromString(identity)

    @contextmanager
    def open(self, _edit: pb.Edit) -> Iterator[_AskedCritic]:
        yield self

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        return self._session.ask(candidate, progress, self._is_held_out)


def _never() -> bool:
    return False
