"""A run that a replica carries out (`ray_engine`), and that is judged and journaled here."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ObjectLostError, RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from editcritic.plugin.ray_items import Answer, Item, Mailbox, Question, RunOrder
from editcritic.plugin.runs import UNREAD_EVENTS
from editcritic.refine.journal import Journal
from editcritic.refine.known_previews import pairing
from editcritic.server.executors.ray import DIED
from editcritic.server.executors.ray_wire import error_of
from editcritic.server.hosting import Hosts
from editcritic.server.opened_edit import OpenedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import EditCriticError, Overloaded, ServerFault, ServerUnavailable

__all__ = ["OpenedEngine", "Post", "RemoteRun", "fault", "unavailable"]

_log = logging.getLogger(__name__)

_Event = refine_pb2.RefineResponse
# An edit that kills whoever carries it out must not go through all replicas.
_LIVES = 3
_PAUSE_S = 0.1
_MOST_WAITING = 1000  # runs that wait for an answer at a time
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, eq=False)
class OpenedEngine:
    """An engine that is deployed.

    handle: of its deployment, for streams. name: that it is offered under. info: who it is, as its replicas say.
    """

    handle: Any
    name: str
    info: refine_pb2.EngineInfo


class Post:
    """The way of answers to replicas: an actor of this front's own, started anew when it died."""

    def __init__(self) -> None:
        self._mailbox: Any = None

    @property
    def mailbox(self) -> Any:
        """The actor; where there is none, it is being started."""
        if self._mailbox is None:
            # Here, as other machines of the cluster may come and go with the load.
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
            made = ray.remote(num_cpus=0, max_concurrency=_MOST_WAITING, scheduling_strategy=here)(Mailbox)
            self._mailbox = made.remote()
        return self._mailbox

    async def bring(self, run: str, number: int, answer: Answer) -> None:
        """Answer a question of an attempt. Raises: RayActorError when the actor died; the attempt is lost then."""
        mailbox = self.mailbox
        try:
            await mailbox.put.remote(run, number, answer)
        except RayActorError:
            if self._mailbox is mailbox:
                self._mailbox = None
            raise

    def forget(self, run: str) -> None:
        """Drop what nobody takes any more."""
        self.mailbox.forget.remote(run)


class RemoteRun:
    """One run, as `local_runs.LocalRun`, with its work elsewhere. When a replica dies, another goes on from the
    journal.

    Args:
        engine: that carries it out. request: as `completed_request` gives it. hosts: whose critics judge.
        journal: where the run is kept. post: brings answers to replicas.
        on_end: called once the edit may be run again.
    """

    def __init__(
        self,
        engine: OpenedEngine,
        request: refine_pb2.RefineRequest,
        hosts: Hosts,
        journal: Journal,
        post: Post,
        on_end: Callable[[], None],
    ) -> None:
        self._engine, self._request, self._hosts, self._journal = engine, request, hosts, journal
        self._post, self._edit_id, self._sent = post, request.edit.edit_id, 0
        self._events: asyncio.Queue[_Event | BaseException | None] = asyncio.Queue(UNREAD_EVENTS)
        # In the caller's context, so that the critics know whose run it is.
        self._work = asyncio.create_task(self._carried_out())
        self._work.add_done_callback(lambda _done: on_end())

    def leave(self) -> None:
        """Have the replica stop after its present denoising step. Safe to call twice."""
        self._work.cancel()

    async def events(self) -> AsyncIterator[_Event]:
        """What happens, until the run is over. Raises: what the run raises."""
        while (item := await self._events.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def _carried_out(self) -> None:
        try:
            with ExitStack() as leaving:
                judges = [await self._judge(self._request.critique, leaving)]
                if self._request.HasField("acceptance"):
                    judges.append(await self._judge(self._request.acceptance, leaving))
                await self._by_replicas(judges)
        except Exception as error:  # handed to the caller's task by `events`
            await self._events.put(error)
        else:
            await self._events.put(None)

    async def _judge(self, options: pb.CritiqueOptions, leaving: ExitStack) -> OpenedEdit:
        opened = await self._hosts.open(self._request.edit, options)
        leaving.callback(opened.close)
        return opened

    async def _by_replicas(self, judges: Sequence[OpenedEdit]) -> None:
        for _ in range(_LIVES):
            try:
                return await self._by_one(judges)
            # What a machine that is gone had told, and nobody had fetched yet, is lost with it.
            except (*DIED, ObjectLostError) as error:
                _log.warning("a replica of the engine %s died: %s", self._engine.name, type(error).__name__)
                await asyncio.sleep(_PAUSE_S)
            except BackPressureError:
                raise Overloaded(
                    f"all replicas of the engine {self._engine.name!r} are busy, and enough waits for them; try again.",
                    reason=pb.ERROR_REASON_QUEUE_FULL,
                    retry_after_s=_RETRY_AFTER_S,
                ) from None
            except DeploymentUnavailableError:
                break
            except (RayError, RayServeException) as error:
                raise fault(self._engine.name, error) from None
        raise unavailable(
            f"no replica of the engine {self._engine.name!r} carried the edit {self._edit_id!r} out"
        )

    async def _by_one(self, judges: Sequence[OpenedEdit]) -> None:
        order = await asyncio.to_thread(self._order, judges, self._post.mailbox)
        response = self._engine.handle.run.remote(order)
        try:
            async for item in response:
                if item[0] != order.name:
                    raise fault(self._engine.name, "what it tells belongs to another run")
                if item[1] == "end":
                    return
                await self._heed(item, judges)
        finally:
            # Told to the replica too, which stops; after its end it changes nothing.
            response.cancel()
            self._post.forget(order.name)
        raise fault(self._engine.name, "its run stopped in the middle")

    def _order(self, judges: Sequence[OpenedEdit], mailbox: Any) -> RunOrder:
        identities = [judge.host.info.identity for judge in judges]
        learned_by = pairing(self._engine.info, identities[0])
        return RunOrder(
            uuid.uuid4().hex,
            self._request.SerializeToString(),
            tuple(event.SerializeToString() for event in self._journal.events(self._edit_id)),
            {learned_by: self._journal.previews(learned_by)},
            identities[0].SerializeToString(),
            identities[1].SerializeToString() if len(identities) > 1 else None,
            mailbox,
        )

    async def _heed(self, item: Item, judges: Sequence[OpenedEdit]) -> None:
        _, kind, told = item
        if kind == "begin":
            await _written(self._journal.begin, self._edit_id, self._request)
        elif kind == "event":
            await self._tell(_Event.FromString(told[0]), is_new=told[1])
        elif kind == "question":
            answer = await _judged(judges[told.is_held_out], told)
            await self._post.bring(item[0], told.number, answer)
        elif kind == "previews":
            await _written(self._journal.keep_previews, self._edit_id, *told)
        else:
            raise error_of(told)

    async def _tell(self, event: _Event, *, is_new: bool) -> None:
        """Journal first. What a replica replays that took over was told already."""
        if is_new:
            await _written(self._journal.append, self._edit_id, event)
        if event.sequence > self._sent:
            self._sent = event.sequence
            await self._events.put(event)


async def _written(write: Callable[..., None], *what: Any) -> None:
    """A write that is under way is waited for also by a run that is left: who resumes it at once has to find it."""
    writing = asyncio.ensure_future(asyncio.to_thread(write, *what))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


async def _judged(judge: OpenedEdit, asked: Question) -> Answer:
    candidate = pb.Candidate.FromString(asked.candidate)
    progress = None if asked.progress is None else pb.DenoisingProgress.FromString(asked.progress)
    try:
        critique = await judge.critique(candidate, progress)
    except EditCriticError as error:
        return False, error.to_status().SerializeToString()
    return True, critique.SerializeToString()


def unavailable(what: str) -> ServerUnavailable:
    """What a run ends with when no replica goes on with it. what: happened."""
    return ServerUnavailable(
        f"{what}; what was done is kept: resume the edit later.",
        reason=pb.ERROR_REASON_ENGINE_UNAVAILABLE,
        retry_after_s=_RETRY_AFTER_S,
    )


def fault(engine: str, why: object) -> ServerFault:
    """What a run ends with when its replica did what it must not. why: for the log alone."""
    incident = uuid.uuid4().hex[:12]
    _log.error("incident %s: the engine %s behind Ray failed: %s", incident, engine, why)
    return ServerFault(
        f"the engine {engine!r} failed on this edit (incident {incident}).",
        reason=pb.ERROR_REASON_INTERNAL,
        metadata={"incident": incident},
    )
