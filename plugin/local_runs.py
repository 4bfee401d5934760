"""Engines in this process: a run has a thread of its own, and shares the critics' devices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

from editcritic.plugin.runs import UNREAD_EVENTS, offered_engine
from editcritic.plugin.steering import steerable
from editcritic.plugin.traced import traced_steps
from editcritic.refine.engine import Engine, load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.server.hosting import Hosts
from editcritic.server.opened_edit import OpenedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import EditCriticError

__all__ = ["LocalEngines", "LocalRun"]

_Event = refine_pb2.RefineResponse


class LocalEngines:
    """Loaded when first asked for.

    Args:
        hosts: the server's critics. names: of the engines, the default first. journal: where runs are kept.
        options: for `load_engine`.
    """

    def __init__(
        self, hosts: Hosts, names: Sequence[str], journal: Journal, options: Mapping[str, Any] | None = None
    ) -> None:
        self._hosts, self._names, self._journal = hosts, tuple(names), journal
        self._options = dict(options or {})
        self._loaded: dict[str, Engine] = {}
        self._loading = threading.Lock()

    @property
    def most_runs(self) -> int:
        """More would only take turns on the device."""
        return 4

    async def infos(self) -> list[refine_pb2.EngineInfo]:
        """Who they are; those that cannot be opened are left out."""
        infos = []
        for name in self._names:
            try:
                engine = await asyncio.to_thread(self.engine, name)
            except EditCriticError:
                continue
            infos.append(engine.capabilities.to_info(device=self._options.get("device", "")))
        return infos

    async def start(self, request: refine_pb2.RefineRequest, on_end: Callable[[], None]) -> LocalRun:
        """Begin a run; see `runs.Engines`."""
        run = await asyncio.to_thread(self._made, request, asyncio.get_running_loop())
        return LocalRun(run, on_end)

    def engine(self, name: str) -> Engine:
        """The engine of that name, loaded.

        Raises:
            NotFound: it is not offered.
            EditCriticError: it cannot be opened.
        """
        wanted = offered_engine(name, self._names)
        with self._loading:
            if wanted not in self._loaded:
                engine = load_engine(wanted, shared=self._hosts.devices.refining, **self._options)
                self._loaded[wanted] = steerable(engine)
            return self._loaded[wanted]

    def _made(self, request: refine_pb2.RefineRequest, loop: asyncio.AbstractEventLoop) -> Refinement:
        engine = self.engine(request.sampling.engine)
        search = _HostedCritic(self._hosts, request.critique, loop)
        held_out = _HostedCritic(self._hosts, request.acceptance, loop)
        acceptance = held_out if request.HasField("acceptance") else None
        return Refinement(engine, search, request, self._journal, acceptance)


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


class LocalRun:
    """A run in a thread of its own, at most some events ahead of whoever reads them.

    on_end: called on the event loop once the thread is done.
    """

    def __init__(self, run: Refinement, on_end: Callable[[], None]) -> None:
        self._run, self._on_end = run, on_end
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[_Event | BaseException | None] = asyncio.Queue(UNREAD_EVENTS)
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
