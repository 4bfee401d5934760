"""Deployments of critics and engines in a Ray cluster: started for this server alone, or shared with other fronts."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from typing import Any, TypeVar

from editcritic.server.critics import critic_name
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.server.executors.ray_wire import WIRE_REVISION
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ServerFault

__all__ = [
    "Deployment",
    "RayCluster",
    "RemoteCritic",
    "application_name",
    "deployment_fingerprint",
    "deployment_options",
]

_Told = TypeVar("_Told")

_log = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.1
_CONSTRUCTOR_TRIES = 3
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, eq=False)
class RemoteCritic:
    """A critic that is deployed.

    Attributes:
        info: who it is, as its replicas say.
        executor: hands batches to them.
        places: batches that they can hold together.
        let_go: leave it; takes the deployment down where it is this server's to take.
    """

    info: pb.CriticInfo
    executor: Any
    places: int
    let_go: Callable[[], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class Deployment:
    """What is to be deployed.

    Attributes:
        name: of its application, the same for every front that means the same.
        own: its settings.
        bind: makes the application; its replicas have to be told `deployment_fingerprint(own)`, and tell it again.
    """

    name: str
    own: RaySettings
    bind: Callable[[], Any]


class RayCluster:
    """A connection to Ray.

    Args:
        settings: of the server.

    Raises:
        SettingsError: Ray is not installed.
    """

    def __init__(self, settings: ServerSettings) -> None:
        if find_spec("ray") is None:
            raise SettingsError("--executor ray needs Ray: pip install 'editcritic[ray]'")
        self._settings, self._ray = settings, settings.ray
        self._is_ours = self._has_connected = False
        self._users: Counter[str] = Counter()
        self._one_at_a_time = asyncio.Lock()

    async def connect(self) -> None:
        """Start Ray, or join the cluster of the settings; one that this process is connected to already is used.

        Raises:
            SettingsError: Ray cannot be started, or the cluster is not there.
        """
        try:
            # Its start takes seconds, in which the server says that it is not ready yet.
            await asyncio.to_thread(self._connect)
            _take_back_sigterm()
        # Ray has no class of its own for a start that failed.
        except Exception as error:
            if self._ray.address is None:
                raise SettingsError(f"Ray could not be started on this machine: {error}") from error
            raise SettingsError(
                f"cannot join the Ray cluster {self._ray.address!r}: {error}. This machine has to be a node of it:"
                " ray start --address=HEAD:6379 --num-cpus=0, then --ray-address auto."
            ) from error

    async def open(self, spec: str) -> RemoteCritic:
        """Deploy a critic, or bring the deployment that is there to the settings; return when a replica serves.

        Raises:
            ServerFault: no replica could be started in time; the log says why.
        """
        from editcritic.server.executors.ray import RayExecutor

        own, name = self._ray.of(critic_name(spec)), application_name(spec)
        wanted = Deployment(name, own, partial(self._application, spec, own))
        handle, info = await self.join(
            wanted, lambda handle: RayExecutor(handle, critic_name(spec)).description()
        )
        executor = RayExecutor(handle, critic_name(spec))
        return RemoteCritic(info, executor, own.most_batches, partial(self._leave, name))

    async def join(
        self, wanted: Deployment, describe: Callable[[Any], Awaitable[tuple[_Told, str]]]
    ) -> tuple[Any, _Told]:
        """Deploy, or bring the deployment that is there to the settings; return when a replica serves.

        Args:
            wanted: what is to be there.
            describe: asks a replica, by the handle, who it is and for its deployment's fingerprint.

        Returns:
            The deployment's handle, and who its replicas are.

        Raises:
            ServerFault: no replica could be started in time; the log says why.
        """
        name = wanted.name
        async with self._one_at_a_time:
            handle = await asyncio.to_thread(self._joined, wanted)
            told, described = await describe(handle)
            if described != deployment_fingerprint(wanted.own):
                # Replaced one by one, so that other fronts are served meanwhile.
                _log.warning("the deployment %s has other settings or another version; it is replaced", name)
                await asyncio.to_thread(self._deploy, wanted)
                told, _ = await describe(handle)
            self._users[name] += 1
        return handle, told

    async def close(self) -> None:
        """Leave the cluster; one that was started for this server ends, with all of its processes."""
        names, self._users = list(self._users), Counter()
        await asyncio.to_thread(self._close, names)

    def _connect(self) -> None:
        # Before Ray is imported: it tells its makers of every start otherwise.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray import serve

        if not ray.is_initialized():
            _check_that_somebody_listens(self._ray.address)
            own = {"object_store_memory": self._ray.object_store_bytes, "include_dashboard": False}
            ray.init(
                address=self._ray.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if self._ray.address else own),
            )
            self._has_connected, self._is_ours = True, self._ray.address is None
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        # The front is ours: no proxy of Serve's listens anywhere.
        serve.start(proxy_location="Disabled")

    def _close(self, names: Sequence[str]) -> None:
        import ray
        from ray import serve

        if self._is_ours:
            serve.shutdown()
        elif self._ray.delete_on_stop:
            for name in names:
                serve.delete(name)
        if self._has_connected:
            ray.shutdown()

    async def _leave(self, name: str) -> None:
        async with self._one_at_a_time:
            self._users -= Counter([name])
            if not self._users[name] and (self._is_ours or self._ray.delete_on_stop):
                from ray import serve

                await asyncio.to_thread(serve.delete, name)

    def _joined(self, wanted: Deployment) -> Any:
        from ray import serve

        while _status(wanted.name) == "DELETING":
            time.sleep(_LOOK_EVERY_S)
        if _status(wanted.name) in ("", "DEPLOY_FAILED"):
            self._deploy(wanted)
        else:
            _wait_until_it_runs(wanted.name, wanted.own.start_timeout_s)
        return serve.get_app_handle(wanted.name)

    def _deploy(self, wanted: Deployment) -> None:
        from ray import serve

        target = serve.RunTarget(wanted.bind(), name=wanted.name, route_prefix=None)
        serve.run_many(
            [target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
        )
        _wait_until_it_runs(wanted.name, wanted.own.start_timeout_s)

    def _application(self, spec: str, own: RaySettings) -> Any:
        from ray import serve

        from editcritic.server.executors.ray_replica import CriticReplica

        options = deployment_options(own)
        deployment = serve.deployment(CriticReplica, name=critic_name(spec), **options)
        # Nobody waits any more after half of it.
        stuck_after_s = 2 * self._settings.max_budget_s
        return deployment.bind(
            spec,
            max_prepared_bytes=own.max_prepared_bytes,
            warm_up=self._settings.warm_up,
            stuck_after_s=stuck_after_s,
            fingerprint=deployment_fingerprint(own),
        )


def application_name(spec: str) -> str:
    """Name of a critic's application in Serve: the same for every front that offers it with the same weights."""
    return f"editcritic-{critic_name(spec)}-{_digest(f'{WIRE_REVISION} {spec}')}"


def deployment_options(own: RaySettings) -> dict[str, Any]:
    """What Serve is told of a critic's deployment."""
    options: dict[str, Any] = {
        "max_ongoing_requests": own.max_ongoing,
        "max_queued_requests": own.max_queued or -1,
        "max_constructor_retry_count": _CONSTRUCTOR_TRIES,
        "ray_actor_options": {"num_cpus": own.replica_cpus, "num_gpus": own.replica_gpus},
    }
    if own.max_replicas is None:
        return options | {"num_replicas": own.replicas}
    scaling = {
        "min_replicas": own.replicas,
        "max_replicas": own.max_replicas,
        "target_ongoing_requests": own.target_ongoing,
    }
    return options | {"autoscaling_config": scaling}


def deployment_fingerprint(own: RaySettings) -> str:
    """Tells deployments of one critic apart by their settings and by the version that they were made with."""
    return _digest(f"{metadata.version('editcritic')} {deployment_options(own)} {own.max_prepared_bytes}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_that_somebody_listens(address: str | None) -> None:
    """Ray itself would go on trying for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()


def _take_back_sigterm() -> None:
    """Ray's library has SIGTERM abort the process; it is to drain the server as before."""
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        # Python still knows its own handler, and puts it in place again.
        signal.signal(signal.SIGTERM, handler)
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(signal.SIGTERM, False)


def _wait_until_it_runs(name: str, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while (status := _status(name)) != "RUNNING":
        if status == "DEPLOY_FAILED" or time.monotonic() > until:
            _log.error("the deployment %s is %s: %s", name, status or "gone", _why(name))
            raise ServerFault(
                f"no replica of {name!r} could be started; the server's log says why.",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
            )
        time.sleep(_LOOK_EVERY_S)


def _status(name: str) -> str:
    from ray import serve

    found = serve.status().applications.get(name)
    return "" if found is None else str(found.status.value)


def _why(name: str) -> str:
    from ray import serve

    found = serve.status().applications.get(name)
    if found is None:
        return "it is gone"
    return "; ".join([found.message, *(each.message for each in found.deployments.values())])
