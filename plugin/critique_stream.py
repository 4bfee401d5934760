"""A stream for callers that block: a thread of its own sends, receives and reconnects."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import TracebackType
from typing import Any

import grpc

from editcritic.plugin.channels import (
    Endpoint,
    backoff_s,
    ended_early,
    error_from_rpc,
    is_worth_reconnecting,
)
from editcritic.plugin.messages import make_preview, name_candidate
from editcritic.plugin.pictures import Picture
from editcritic.plugin.stream_state import StreamState
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import DeadlineExceeded, EditCriticError

__all__ = ["CritiqueStream"]

_POLL_S = 0.05


class CritiqueStream:
    """One edit that is open at the server. A thread of its own sends, receives and reconnects.

    Attributes:
        opened: what the server said when it opened the edit: its name, the critic, the limits.
    """

    def __init__(
        self,
        stub: critic_pb2_grpc.CriticServiceStub,
        endpoint: Endpoint,
        state: StreamState,
        max_reconnects: int,
    ) -> None:
        self._stub = stub
        self._endpoint = endpoint
        self._state = state
        self._max_reconnects = max_reconnects
        self._lock = threading.Lock()
        self._outgoing: queue.SimpleQueue[pb.CritiqueStreamRequest | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[pb.CritiqueStreamResponse | EditCriticError | None] = (
            queue.SimpleQueue()
        )
        self._is_open = threading.Event()
        self._is_left = threading.Event()
        self._call: Any = None
        self._failure: EditCriticError | None = None
        self._has_opened = False
        self.opened = pb.EditOpened()
        self._thread = threading.Thread(
            # In the opener's context, so that the call belongs to the opener's trace.
            target=copy_context().run,
            args=(self._run,),
            name="critique-stream",
            daemon=True,
        )
        self._thread.start()

    def __enter__(self) -> CritiqueStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_open(self, timeout_s: float, while_waiting: Callable[[], object] | None = None) -> None:
        """Return once the edit is open.

        Args:
            timeout_s: seconds that it may take.
            while_waiting: called every 50 ms until then; what it raises ends the stream.

        Raises:
            EditCriticError: it was refused, or the time passed.
        """
        try:
            is_open = self._waited(timeout_s, while_waiting)
        except BaseException:
            self.close()
            raise
        if not is_open:
            self.close()
            raise DeadlineExceeded(
                f"{self._endpoint.address} did not open the edit within {timeout_s:.3g} s."
            )
        # What happens after the opening is told where events are read.
        if self._failure is not None and not self._has_opened:
            raise self._failure

    def _waited(self, timeout_s: float, while_waiting: Callable[[], object] | None) -> bool:
        if while_waiting is None:
            return self._is_open.wait(timeout_s)
        deadline = time.monotonic() + timeout_s
        while not self._is_open.wait(_POLL_S):
            while_waiting()
            if time.monotonic() > deadline:
                return False
        return True

    def candidate(self, candidate_id: str, picture: Picture | pb.Candidate, **details: Any) -> None:
        """Send a finished candidate; `details` are region, seed and encoding, see `make_candidate`.

        Raises:
            ImageError: the picture cannot be read.
        """
        candidate = name_candidate(candidate_id, picture, details)
        self._add(pb.CritiqueStreamRequest(candidate=candidate))

    def preview(
        self,
        candidate_id: str,
        picture: Picture | pb.Candidate,
        fraction: float,
        *,
        step: int = 0,
        step_count: int = 0,
        sigma: float | None = None,
        engine: str | None = None,
        **details: Any,
    ) -> None:
        """Send a candidate part-way through denoising.

        Args:
            candidate_id: the candidate that it will become.
            picture: the predicted clean image.
            fraction: share of the executed steps that are done, in (0, 1].
            step: steps done, when known.
            step_count: steps in all, when known.
            sigma: noise level, when known.
            engine: its name as engines tell it ("tabletop"), when known; a critic that has learned its previews
                then forecasts the finished candidate's scores.
            **details: region, seed and encoding, see `make_candidate`.

        Raises:
            ImageError: the picture cannot be read.
        """
        candidate = name_candidate(candidate_id, picture, details)
        self._add(make_preview(candidate, fraction, step, step_count, sigma, engine))

    def cancel(self, candidate_id: str) -> None:
        """Forget a candidate; its name may be used again."""
        with self._lock:
            self._state.cancel(candidate_id)
            self._send_ready()

    def events(self, timeout_s: float = 0.0) -> Iterator[pb.CritiqueStreamResponse]:
        """What has come until now, and what comes within `timeout_s` of the last: critiques, errors, drops.

        Raises:
            EditCriticError: the stream cannot go on.
        """
        while True:
            try:
                event = self._events.get(timeout=timeout_s) if timeout_s else self._events.get_nowait()
            except queue.Empty:
                return
            if event is None:
                return
            if isinstance(event, EditCriticError):
                raise event
            yield event

    def finish(self) -> Iterator[pb.CritiqueStreamResponse]:
        """Say that nothing more comes, and iterate over every answer that is still due.

        Raises:
            EditCriticError: the stream cannot go on; what was yielded before stays valid.
        """
        with self._lock:
            self._state.finish()
            self._send_ready()
        while (event := self._events.get()) is not None:
            if isinstance(event, EditCriticError):
                raise event
            yield event

    def close(self) -> None:
        """Leave the stream; the server drops what it has not judged. Safe to call twice."""
        self._is_left.set()
        call = self._call
        if call is not None:
            call.cancel()
        self._outgoing.put(None)
        self._thread.join(timeout=5)

    def _add(self, request: pb.CritiqueStreamRequest) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._state.add(request)
            self._send_ready()

    def _send_ready(self) -> None:
        for request in self._state.take_requests():
            self._outgoing.put(request)

    def _run(self) -> None:
        lost, answered_before = 0, 0
        while True:
            error = self._converse()
            if error is None or self._is_left.is_set():
                break
            if self._state.wants_whole_edit(error):
                self._begin_anew()
                continue
            # Only answers count as progress: a candidate that brings the server down would be sent for ever.
            lost = 1 if self._state.answered_count > answered_before else lost + 1
            answered_before = self._state.answered_count
            if lost > self._max_reconnects or not is_worth_reconnecting(error):
                self._fail(error)
                break
            if self._is_left.wait(backoff_s(lost)):
                break
            self._begin_anew()
        self._events.put(None)
        self._is_open.set()

    def _begin_anew(self) -> None:
        with self._lock:
            self._outgoing = queue.SimpleQueue()
            self._state.reconnect()

    def _converse(self) -> EditCriticError | None:
        """One connection, from open to closed; or why it ended before."""
        with self._lock:
            self._send_ready()
            requests = iter(self._outgoing.get, None)
            self._call = self._stub.CritiqueStream(requests, metadata=self._endpoint.metadata())
        try:
            for event in self._call:
                self._take(event)
            return None if self._state.is_closed else ended_early(self._endpoint.address)
        except grpc.RpcError as error:
            return error_from_rpc(error, self._endpoint.address)
        finally:
            # Ends the thread in which gRPC reads the requests of this connection.
            self._outgoing.put(None)

    def _take(self, event: pb.CritiqueStreamResponse) -> None:
        with self._lock:
            news = self._state.receive(event)
            self._send_ready()
        if event.HasField("opened"):
            self.opened, self._has_opened = event.opened, True
            self._is_open.set()
        if news is not None:
            self._events.put(news)

    def _fail(self, error: EditCriticError) -> None:
        with self._lock:
            self._failure = error
        self._events.put(error)
