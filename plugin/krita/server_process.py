"""A server of the user's own, started from Krita and gone with it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import deque
from typing import Deque, List, Optional

__all__ = ["ServerProcess", "StartFailed"]

_ANNOUNCEMENT = "http address:"
_START_TIMEOUT_S, _STOP_TIMEOUT_S = 120.0, 5.0


class StartFailed(Exception):
    """The command ended, or said no address in time; the message has its last words."""


class ServerProcess:
    """Runs the command that starts a server, and learns its address from what it prints.

    `start` blocks until it is known, so it belongs into a worker thread.
    """

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[str]] = None
        self._lines: Deque[str] = deque(maxlen=20)
        self._known = threading.Event()
        self._reader: Optional[threading.Thread] = None
        self._address = ""

    @property
    def is_running(self) -> bool:
        """Whether it was started here and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: List[str]) -> str:
        """Start the command; its host:port once it listens. Raises: StartFailed."""
        if self.is_running and self._address:
            return self._address
        self.stop()
        self._known.clear()
        self._lines.clear()
        self._address = ""
        # Krita's own Python and libraries must not leak into another Python.
        keep = {
            k: v
            for k, v in os.environ.items()
            if k not in ("PYTHONHOME", "LD_LIBRARY_PATH", "QT_PLUGIN_PATH")
        }
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, encoding="utf-8", errors="replace", env=keep, creationflags=flags,
            )  # fmt: skip
        except OSError as error:
            raise StartFailed(f"{command[0]} cannot be started: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self._known.wait(_START_TIMEOUT_S)
        if not self._address:
            last = next((line for line in reversed(self._lines) if line.strip()), "it said nothing")
            self.stop()
            raise StartFailed(f"the server did not start: {last}")
        return self._address

    def stop(self) -> None:
        """End the process; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(_STOP_TIMEOUT_S)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - narrows the type
        with process.stdout as lines:
            for line in lines:
                self._lines.append(line.strip())
                self._address = self._address or _address_in(line)
                if self._address:
                    self._known.set()
        self._known.set()


def _address_in(line: str) -> str:
    """The address that a server says in words, or as JSON when it is told to end with its owner; else empty."""
    if line.startswith(_ANNOUNCEMENT):
        return line[len(_ANNOUNCEMENT) :].strip()
    try:
        told = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return ""
    return str(told.get("http_address") or "")
