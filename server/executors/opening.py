"""Picks the executor of a critic whose model does not simply stay in the server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor as ThreadPool

from editcritic.server.critic_hosting import CriticHosting
from editcritic.server.critics import critic_name
from editcritic.server.device import Devices
from editcritic.server.executors.hosted import HostedExecutor
from editcritic.server.executors.sleeping import SleepingExecutor
from editcritic.server.executors.unloading import UnloadingExecutor
from editcritic.server.settings import ServerSettings

__all__ = ["hosted_executor"]


def hosted_executor(
    spec: str,
    hosting: CriticHosting,
    settings: ServerSettings,
    devices: Devices,
    pool_of: Callable[[str], ThreadPool],
) -> HostedExecutor:
    """An executor that is not started.

    Args:
        spec: the critic's full name.
        hosting: where it is to live.
        settings: of the server.
        devices: where it takes its turns.
        pool_of: a device's name to the threads that judge on it.
    """
    executor: HostedExecutor = UnloadingExecutor(spec, pool_of, devices)
    if hosting.isolation == "process":
        # Windows lacks what it is made of.
        from editcritic.server.executors.process import ProcessExecutor
        from editcritic.server.executors.worker_command import WorkerCommand

        command = WorkerCommand(critic_name(spec), spec, hosting, settings.workers)
        executor = ProcessExecutor(command, devices, settings.max_budget_s)
    return SleepingExecutor(executor, hosting.sleep_after_s) if hosting.sleep_after_s else executor
