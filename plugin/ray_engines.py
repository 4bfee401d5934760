"""Engines behind Ray: each is a deployment of its own, whose replicas carry out runs (`ray_engine`)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from editcritic.plugin.ray_engine import EngineReplica
from editcritic.plugin.ray_items import WIRE_REVISION, notice_of
from editcritic.plugin.ray_runs import OpenedEngine, Post, RemoteRun, fault, unavailable
from editcritic.plugin.runs import offered_engine
from editcritic.refine.journal import Journal
from editcritic.server.executors.ray import DIED
from editcritic.server.executors.ray_cluster import Deployment, deployment_fingerprint, deployment_options
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.server.hosting import Hosts
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import EditCriticError, ServerFault

__all__ = ["RayEngines", "engine_application_name"]

_log = logging.getLogger(__name__)
_TRIES = 3
_PAUSE_S = 0.1


class RayEngines:
    """Each in a deployment of its own; deployed with the server's critics.

    Args:
        hosts: the server's critics. names: of the engines, the default first. journal: where runs are kept.
        options: for `load_engine`.
    """

    def __init__(
        self, hosts: Hosts, names: Sequence[str], journal: Journal, options: Mapping[str, Any] | None = None
    ) -> None:
        self._hosts, self._names, self._journal = hosts, tuple(names), journal
        self._options = dict(options or {})
        self._own = {name: hosts.settings.ray.of_engine(name) for name in names}
        self._opened: dict[str, OpenedEngine] = {}
        self._opening = asyncio.Lock()
        self._post = Post()
        hosts.also_load.append(self._load)

    @property
    def most_runs(self) -> int:
        """As many as all replicas can have, and as may wait for one."""
        return sum(own.most_batches + own.max_queued for own in self._own.values())

    async def infos(self) -> list[refine_pb2.EngineInfo]:
        """Who they are, as their replicas say; those that are not there are left out."""
        return [self._opened[name].info for name in self._names if name in self._opened]

    async def start(self, request: refine_pb2.RefineRequest, on_end: Callable[[], None]) -> RemoteRun:
        """Begin a run; see `runs.Engines`."""
        name = offered_engine(request.sampling.engine, self._names)
        return RemoteRun(await self._engine(name), request, self._hosts, self._journal, self._post, on_end)

    async def _load(self) -> None:
        _ = self._post.mailbox  # is there once a run needs it
        for name in self._names:
            try:
                await self._engine(name)
            except EditCriticError as error:
                _log.error("the engine %r could not be loaded: %s", name, error.message)
            except Exception:
                _log.exception("the engine %r could not be loaded", name)

    async def _engine(self, name: str) -> OpenedEngine:
        async with self._opening:
            if name not in self._opened:
                try:
                    self._opened[name] = await self._deployed(name, self._own[name])
                except ServerFault as fault:
                    raise unavailable(f"no replica of the engine {name!r} could be started") from fault
            return self._opened[name]

    async def _deployed(self, name: str, own: RaySettings) -> OpenedEngine:
        cluster = self._hosts.cluster
        if cluster is None:
            raise unavailable("the executor is not ray")
        application = engine_application_name(name, self._options)
        wanted = Deployment(application, own, partial(_application, application, name, self._options, own))
        handle, info = await cluster.join(wanted, partial(_description, application, name))
        return OpenedEngine(handle.options(stream=True), name, info)


def engine_application_name(name: str, options: Mapping[str, Any] | None = None) -> str:
    """Name of an engine's application in Serve: the same for every front that offers it with the same options."""
    digest = hashlib.sha256(f"{WIRE_REVISION} {name} {sorted((options or {}).items())}".encode()).hexdigest()
    return f"editcritic-engine-{_deployment_name(name)}-{digest[:8]}"


def _deployment_name(name: str) -> str:
    """A folder or a hub id as Serve takes names."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", Path(name).name).strip("-") or "engine"


def _application(application: str, name: str, options: Mapping[str, Any], own: RaySettings) -> Any:
    from ray import serve

    deployment = serve.deployment(EngineReplica, name=_deployment_name(name), **deployment_options(own))
    return deployment.bind(
        name, dict(options), fingerprint=deployment_fingerprint(own), application=application
    )


async def _description(application: str, name: str, handle: Any) -> tuple[refine_pb2.EngineInfo, str]:
    """As it is written down; where no replica has started yet, one is woken by being asked."""
    found = await asyncio.to_thread(notice_of, application)
    if found is not None:
        return refine_pb2.EngineInfo.FromString(found[0]), found[1]
    for _ in range(_TRIES):
        try:
            info, fingerprint = await handle.description.remote()
            return refine_pb2.EngineInfo.FromString(info), fingerprint
        except DIED:
            await asyncio.sleep(_PAUSE_S)
        except (RayError, RayServeException) as error:
            raise fault(name, error) from None
    raise fault(name, "each replica that was asked died")
