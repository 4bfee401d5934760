"""Which server a node asks, and what to do when none answers.

A workflow may come from a stranger. So it may name servers of this machine only, and the one that the person has named
in EDITCRITIC_SERVER; and token, TLS and certificate come from the environment and go to that one server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editcritic.plugin.channels import DEFAULT_ADDRESS
from editcritic.plugin.client import Client
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.v1.errors import InvalidInput, ServerUnavailable

from . import host

__all__ = [
    "CriticAddress",
    "check_address",
    "connected",
    "default_address",
    "embedded_address",
    "has_ended",
    "opened",
]

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_SHAPE = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_WHAT_TO_DO = (
    "Start one with `editcritic serve`, or put a Critic Server node before this one and set it to `embedded`;"
    " then queue the graph again."
)
_TIMEOUT_S = 600.0
_RECONNECTS = 3

_running: dict[str, EmbeddedServer] = {}


@dataclass(frozen=True)
class CriticAddress:
    """What a Critic Server node hands on. address: ``host:port``."""

    address: str


def default_address() -> str:
    """Of EDITCRITIC_SERVER, else this machine's usual one."""
    return os.environ.get("EDITCRITIC_SERVER") or DEFAULT_ADDRESS


def check_address(address: str) -> str:
    """The address, the default one for an empty text. Raises: InvalidInput for what a workflow may not name."""
    address = address.strip() or default_address()
    if not _SHAPE.fullmatch(address):
        raise InvalidInput(f"{address!r} is no address; expected host:port, for example {DEFAULT_ADDRESS}")
    if address.rpartition(":")[0] not in _LOCAL and address != os.environ.get("EDITCRITIC_SERVER"):
        raise InvalidInput(
            f"{address} is not on this machine. A workflow must not choose where your pictures are sent: set"
            f" EDITCRITIC_SERVER={address} in ComfyUI's environment to allow it."
        )
    return address


def embedded_address(critic: str) -> str:
    """The address of a server of ComfyUI's own, started when none runs; it ends with ComfyUI.

    Raises: ServerUnavailable when it cannot be started, with what to install.
    """
    server = _running.get(critic)
    if server is None or server.pid is None:
        python = os.environ.get("EDITCRITIC_PYTHON", "")
        server = EmbeddedServer([critic], ["--no-verdicts"], python=python)
        _running[critic] = server
        pool = ThreadPoolExecutor(1, "editcritic-start")
        starting = pool.submit(server.start)
        pool.shutdown(wait=False)
        host.wait_for(starting)
    return server.address


def has_ended(critic: str) -> bool:
    """Whether the embedded server of that critic was started and runs no more."""
    return critic in _running and _running[critic].pid is None


@contextmanager
def connected(server: CriticAddress | None) -> Iterator[Client]:
    """A client of the server; the default one for None.

    Raises: ServerUnavailable with what to do, in place of the client's own words; InvalidInput for a bad address.
    """
    address = check_address(server.address if server else "")
    try:
        with Client(address, timeout_s=_TIMEOUT_S, **_credentials(address)) as client:
            yield client
    except ServerUnavailable as error:
        raise ServerUnavailable(f"The critic server at {address} cannot be reached. {_WHAT_TO_DO}") from error


@contextmanager
def opened(client: Client, edit: Any, **options: Any) -> Iterator[Any]:
    """An edit that is open on a stream; looks for an interrupt while the server takes its time.

    Raises: EditCriticError when it is refused or there is no server.
    """
    stream = client.open_edit(
        edit, max_reconnects=_RECONNECTS, while_waiting=host.check_interrupted, **options
    )
    with stream:
        yield stream


def _credentials(address: str) -> dict[str, Any]:
    if address != os.environ.get("EDITCRITIC_SERVER"):
        return {}
    tls = os.environ.get("EDITCRITIC_TLS", "")
    cert, key = (os.environ.get(f"EDITCRITIC_TLS_{part}") for part in ("CERT", "KEY"))
    return {
        "token": os.environ.get("EDITCRITIC_TOKEN"),
        "tls": Path(tls) if tls not in ("", "0", "1") else tls == "1",
        "identity": (Path(cert), Path(key)) if cert and key else None,
    }
