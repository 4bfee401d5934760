"""A peer as a process of its own, gone with its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import IO

__all__ = ["PeerProcess"]

_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.05
_KEPT_LOG_LINES = 20
# Nothing is told to anybody, and a session of a Ray that runs on the machine is none of ours.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "", "PYTHONUNBUFFERED": "1"}


class PeerProcess:
    """A server program that ends when its input closes; use it as ``with PeerProcess(...) as process``.

    Args:
        module: to be run.
        critic: its full name. workers: how many may judge at a time.

    Attributes:
        port: it is to listen on, of 127.0.0.1.
    """

    def __init__(self, module: str, critic: str, workers: int) -> None:
        self._flags = [f"--critic={critic}", f"--workers={workers}"]
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self.port = 0

    def __enter__(self) -> PeerProcess:
        self.port = _free_port()
        command = [sys.executable, "-m", self._module, *self._flags, f"--port={self.port}"]
        # A session of its own, so that its workers can be ended with it and nobody else's.
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
        )
        assert self._process.stderr is not None  # noqa: S101 - narrows the type
        threading.Thread(target=self._keep_log, args=(self._process.stderr,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        end = time.monotonic() + _STOP_TIMEOUT_S
        while self.is_alive and time.monotonic() < end:
            time.sleep(_POLL_S)
        # It, if it did not listen, and workers that outlived it. Not waited for yet, so the number is still its own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        if self._process is None or self._process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    @property
    def last_words(self) -> str:
        """The end of what it said."""
        return " ".join(line for line in self._log if line)[-500:] or "it said nothing"

    def _keep_log(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in stderr:
                self._log.append(line.decode(errors="replace").strip())


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
