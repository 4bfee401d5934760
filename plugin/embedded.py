"""A server of one's own on loopback, started when no other is named and gone with its owner."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any

from editcritic.v1.errors import ServerUnavailable

__all__ = ["EmbeddedServer"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
_KEPT_LOG_LINES = 20


class EmbeddedServer:
    """A critic server in a process of its own; use it as ``with EmbeddedServer() as server``.

    The process ends when its input closes, so it cannot outlive its owner, however that ends.

    Args:
        critics: names of the registry to offer; by default the server's.
        flags: further flags of ``python -m editcritic.server``.
        python: interpreter that has the server installed; by default this one.

    Attributes:
        address: ``host:port`` once it listens.
        http_address: the same of its HTTP face, when the flags ask for one.
    """

    def __init__(self, critics: Sequence[str] = (), flags: Sequence[str] = (), *, python: str = "") -> None:
        self._python = python or sys.executable
        self._flags = [*flags, *([f"--critics={','.join(critics)}"] if critics else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self._log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self.address = self.http_address = ""

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        is_running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and is_running else None

    @property
    def last_error(self) -> str:
        """The last error of its log; empty without one."""
        told = [line.partition(" ERROR ")[2].partition(": ")[2] for line in self._log]
        return next((each for each in reversed(told) if each), "")

    def start(self) -> None:
        """Start the process and wait until it listens. Starting a running one changes nothing.

        Raises:
            ServerUnavailable: it ended or said nothing in time; the message has the end of its log.
        """
        if self.pid is not None:
            return
        command = [self._python, "-m", "editcritic.server", "--port=0", "--embedded", *self._flags]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603
        assert self._process.stderr is not None  # noqa: S101 - narrows the type
        threading.Thread(target=self._keep_log, args=(self._process.stderr,), daemon=True).start()
        announced = self._announcement()
        self.address, self.http_address = announced["address"], announced.get("http_address", "")

    def stop(self) -> None:
        """Close its input and wait until it has ended. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 - narrows the type
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
        with process:  # closes the pipes
            pass

    def _announcement(self) -> dict[str, Any]:
        lines: deque[bytes] = deque()
        assert self._process is not None  # noqa: S101 - narrows the type
        assert self._process.stdout is not None  # noqa: S101 - narrows the type
        stdout = self._process.stdout
        reader = threading.Thread(target=lambda: lines.append(stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_TIMEOUT_S)
        try:
            announcement: dict[str, Any] = json.loads(lines[0])
        except (IndexError, ValueError) as error:
            # The end of the log may still be on its way.
            time.sleep(0.1)
            self.stop()
            raise ServerUnavailable(f"the embedded server did not start: {self._last_words()}") from error
        return announcement

    def _last_words(self) -> str:
        if any("No module named" in line for line in self._log):
            return "the server is not installed. Install it: pip install 'editcritic[server]'"
        return " ".join(line for line in self._log if line)[-500:] or "it said nothing"

    def _keep_log(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            self._log.append(line.decode(errors="replace").strip())
