"""A Ray for the tests: small, of this session alone, and gone after it."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from editcritic.server.executors.ray_cluster import application_name
from editcritic.server.executors.ray_settings import RaySettings

STORE_BYTES = 80 * 2**20
TWO_REPLICAS = RaySettings(
    replicas=2,
    replica_cpus=0.1,
    object_store_bytes=STORE_BYTES,
    per_critic=("staged?replicas=1&max_ongoing=1", "evidence?replicas=1", "network?replicas=1"),
)


@contextmanager
def small_ray() -> Iterator[None]:
    """Ray with two cores and a shared memory of 80 MB, which knows the staged critic."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'editcritic[ray]'")
    # Not below pytest's own folder: the names of its sockets would be too long.
    folder = tempfile.mkdtemp(prefix="ec-ray-", dir="/tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_gcs_server_port_wait_time_s", "60")
        patch.delenv("RAY_ADDRESS", raising=False)
        # Replicas import the staged critic from where the tests are.
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=os.pathsep)
        try:
            _start(folder)
            yield
        finally:
            import ray
            from ray import serve

            if ray.is_initialized():
                serve.shutdown()
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: str) -> None:
    import ray

    for tries_left in (2, 1, 0):
        try:
            ray.init(
                address="local",
                num_cpus=2,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"worker_process_setup_hook": "tests.server.conformance.staged.register"},
                _temp_dir=folder,
            )
            return
        except Exception as error:
            # What Ray gives each part of its own start is less than a busy machine may need.
            if not tries_left or "timed out" not in str(error).lower():
                raise
            ray.shutdown()


def replicas_of(spec: str) -> list[psutil.Process]:
    """The processes of a critic that this process's Ray runs."""
    return processes_of(application_name(spec))


def processes_of(application: str) -> list[psutil.Process]:
    """The processes of an application's replicas."""
    title = f"ServeReplica:{application}"
    running = psutil.Process().children(recursive=True)
    return [process for process in running if title in _command(process)]


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
