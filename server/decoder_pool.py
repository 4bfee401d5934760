"""Decodes pictures in a few processes of their own, so that a hostile one costs its own item and nothing else.

A worker that crashes, runs out of memory or takes too long is replaced; the picture that it had gets an error. Workers
are started anew rather than forked: a fork of a process with gRPC's threads may hang.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import uuid
from typing import Any, TypeAlias

import numpy as np
from google.rpc import status_pb2
from numpy.typing import NDArray

from editcritic.server.decoder_worker import ANSWER, MASK, PICTURE, READY, REQUEST, as_argument, receive
from editcritic.server.settings import DECODING_TIMEOUT_S
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError, ServerFault, ServerUnavailable, error_from_status
from editcritic.v1.images import ImageLimits, decode_image, decode_mask, pixel_count

__all__ = ["DecoderPool"]

_log = logging.getLogger(__name__)
_Answer: TypeAlias = "tuple[tuple[Any, ...], bytearray | bytes]"
WORKER_COMMAND = (sys.executable, "-m", "editcritic.server.decoder_worker")
_BUFFER_BYTES = 1 << 20
_MAX_STATUS_BYTES = 1 << 16
_MAX_STARTS = 2
_START_TIMEOUT_S = 60.0
_STOPPING = "the server is stopping."
# One thread each, whatever the server has; and nothing of the server's own secrets.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "HOME", "SYSTEMROOT")


class DecoderPool:
    """Pictures in, pixels out, by processes that may break.

    Args:
        workers: processes; as many pictures are decoded at a time.
        limits: what may be decoded; the workers' memory follows from it.
        timeout_s: longest time of one picture.
        command: of a worker; the limits are added to it.
    """

    def __init__(
        self,
        workers: int,
        limits: ImageLimits,
        *,
        timeout_s: float = DECODING_TIMEOUT_S,
        command: tuple[str, ...] | None = None,
    ) -> None:
        self._limits = limits
        self._timeout_s = timeout_s
        self._command = (*(command or WORKER_COMMAND), as_argument(limits))
        self._closed = threading.Event()
        self._live: set[_Worker] = set()
        # A place for each worker; None stands for one that is not started.
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._places.put(None)

    def start(self) -> None:
        """Start one worker; the others come when they are needed.

        Raises:
            ServerFault: it does not start.
        """
        self._places.put(self._started(self._places.get()))

    def picture(self, message: pb.Image, limits: ImageLimits) -> NDArray[np.uint8]:
        """(H, W, 3) uint8; raises as `decode_image`."""
        # Bare pixels meet no decoder.
        if message.WhichOneof("content") == "raw":
            return decode_image(message, limits)
        return self._decode(PICTURE, message, limits)

    def mask(self, message: pb.Image, limits: ImageLimits) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1]; raises as `decode_mask`."""
        if message.WhichOneof("content") == "raw":
            return decode_mask(message, limits)
        return self._decode(MASK, message, limits)[..., 0].astype(np.float32) / np.float32(255)

    def close(self) -> None:
        """End all workers, busy ones too. Safe to call twice."""
        self._closed.set()
        for worker in list(self._live):
            self._end(worker)

    def _decode(self, kind: int, message: pb.Image, limits: ImageLimits) -> NDArray[np.uint8]:
        # What the header alone refuses costs no way to a worker and back.
        pixel_count(message, limits)
        worker = self._places.get()
        try:
            worker = self._started(worker)
            answer = worker.ask(kind, message, time.monotonic() + self._timeout_s)
        except (OSError, ValueError) as error:
            assert worker is not None  # noqa: S101 - only a worker that was asked raises these
            fault, worker = self._broken(worker, error), None
            raise fault from error
        finally:
            self._places.put(worker)
        return _checked(answer, kind, limits)

    def _started(self, worker: _Worker | None) -> _Worker:
        """A worker that lives: the one given, or one in its place."""
        if self._closed.is_set():
            raise ServerUnavailable(_STOPPING, reason=pb.ERROR_REASON_SHUTTING_DOWN)
        if worker is not None and worker.is_alive:
            return worker
        if worker is not None:
            _log.error("an idle decoder ended (exit code %s) and is replaced", self._end(worker))
        for attempt in range(1, _MAX_STARTS + 1):
            try:
                started = _Worker(self._command)
            except OSError as error:
                _log.error("a decoder could not be started (attempt %d): %s", attempt, error)
            else:
                self._live.add(started)
                # `close` ends those that it sees; one that was starting meanwhile is ended here.
                if self._closed.is_set():
                    self._end(started)
                    raise ServerUnavailable(_STOPPING, reason=pb.ERROR_REASON_SHUTTING_DOWN)
                return started
        raise ServerFault("no decoder could be started; the log says why.", reason=pb.ERROR_REASON_INTERNAL)

    def _end(self, worker: _Worker) -> int | None:
        self._live.discard(worker)
        return worker.end()

    def _broken(self, worker: _Worker, error: Exception) -> ImageError:
        incident, code = uuid.uuid4().hex[:12], self._end(worker)
        _log.error(
            "incident %s: a decoder broke down (%s, exit code %s) and is replaced", incident, error, code
        )
        how = f"took over {self._timeout_s:g} s" if isinstance(error, TimeoutError) else "broke the decoder"
        return ImageError(
            f"decoding the picture {how} (incident {incident}); send it as PNG from another program.",
            reason=pb.ERROR_REASON_IMAGE_UNDECODABLE,
            metadata={"incident": incident},
        )


class _Worker:
    """One process and the socket to it."""

    def __init__(self, command: tuple[str, ...]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            # In a session of its own: Ctrl-C at the server's terminal must not end it before its last picture.
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**kept, **_ENVIRONMENT},
                start_new_session=True,
            )
        self._socket = ours
        try:
            receive(_Timed(ours, time.monotonic() + _START_TIMEOUT_S), len(READY))
        except OSError:
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, kind: int, message: pb.Image, deadline: float) -> _Answer:
        """Head and body of the answer.

        Raises:
            TimeoutError: none came by the deadline.
            OSError: the worker ended. ValueError: it answered nonsense.
        """
        data = message.encoded.data
        connection = _Timed(self._socket, deadline)
        connection.sendall(REQUEST.pack(kind, max(message.encoded.format, 0) & 0xFF, len(data)))
        connection.sendall(data)
        head = ANSWER.unpack(receive(connection, ANSWER.size))
        return head, receive(connection, _sound_length(head))

    def end(self) -> int | None:
        """Kill it if it lives; its exit code."""
        self._socket.close()
        self._process.kill()
        return self._process.wait()


class _Timed:
    """A socket whose every step ends by one deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._connection.sendall(data)

    def recv_into(self, view: memoryview) -> int:
        self._arm()
        return self._connection.recv_into(view)

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline passed")
        self._connection.settimeout(left)


def _sound_length(head: tuple[Any, ...]) -> int:
    """Bytes that follow; a worker that was taken over may claim anything."""
    is_pixels, height, width, channels, length = head
    sound = height * width * channels == length if is_pixels == 1 else length <= _MAX_STATUS_BYTES
    if is_pixels not in (0, 1) or not sound:
        raise ValueError("its answer makes no sense")
    return int(length)


def _checked(answer: _Answer, kind: int, limits: ImageLimits) -> NDArray[np.uint8]:
    (is_pixels, height, width, channels, _), body = answer
    if not is_pixels:
        raise error_from_status(status_pb2.Status.FromString(bytes(body)))
    limits.check_size(width, height)
    if channels != (3 if kind == PICTURE else 1):
        raise ServerFault("a decoder answered with another kind of picture.", reason=pb.ERROR_REASON_INTERNAL)
    return np.frombuffer(body, np.uint8).reshape(height, width, channels)
