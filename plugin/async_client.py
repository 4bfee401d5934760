"""The asyncio client: the same methods as `editcritic.plugin.client.Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from editcritic.plugin.channels import (
    DEFAULT_ADDRESS,
    Endpoint,
    backoff_s,
    ended_early,
    error_from_rpc,
    is_worth_reconnecting,
)
from editcritic.plugin.known_edits import KnownEdits
from editcritic.plugin.messages import (
    Candidates,
    as_candidate,
    as_candidates,
    make_options,
    make_preview,
    make_verdict,
    name_candidate,
)
from editcritic.plugin.pictures import Picture
from editcritic.plugin.stream_state import StreamState
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc, tracing
from editcritic.v1.errors import DeadlineExceeded, EditCriticError

if TYPE_CHECKING:
    from editcritic.v1.critic_pb2_grpc import CriticServiceAsyncStub

__all__ = ["AsyncClient", "AsyncCritiqueStream"]

_Answer = TypeVar("_Answer")


def _stub(channel: grpc.aio.Channel) -> CriticServiceAsyncStub:
    # The generated class serves both kinds of channel; only its type stubs tell them apart.
    return critic_pb2_grpc.CriticServiceStub(channel)  # type: ignore[return-value]


class AsyncClient:
    """Calls a critic server from one event loop; use it as ``async with AsyncClient(...)``.

    Args:
        address: ``host:port``.
        token: bearer token, when the server asks for one.
        tls: True for the system's certificate authorities, or a PEM file; False for clear text.
        identity: PEM files of a certificate and its key, when the server asks its clients for one.
        timeout_s: seconds that one call may take, retries included.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: bool | Path = False,
        identity: tuple[Path, Path] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._endpoint = Endpoint(address, token, tls, identity)
        self._timeout_s = timeout_s
        self._known = KnownEdits()
        self._channel = self._endpoint.aio_channel()
        self._stub = _stub(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; open streams end with an error."""
        await self._channel.close(None)

    async def critique(
        self,
        edit: pb.Edit,
        candidate: Picture | pb.Candidate,
        *,
        progress: pb.DenoisingProgress | None = None,
        **options: Any,
    ) -> pb.Critique:
        """Judge one candidate; see `Client.critique`."""
        request = pb.CritiqueRequest(
            edit=edit,
            candidate=as_candidate(candidate),
            options=make_options(**options),
            progress=progress,
        )
        return (await self._call(self._stub.Critique, request)).critique

    async def rank(
        self, edit: pb.Edit, candidates: Candidates, **options: Any
    ) -> Sequence[pb.RankedCandidate]:
        """Order candidates from best to worst; see `Client.rank`."""
        request = pb.RankRequest(
            edit=edit, candidates=as_candidates(candidates), options=make_options(**options)
        )
        return (await self._call(self._stub.Rank, request)).ranking

    async def list_critics(self) -> pb.ListCriticsResponse:
        """The server's critics, versions and limits; see `Client.list_critics`."""
        return await self._call(self._stub.ListCritics, pb.ListCriticsRequest())

    async def record_verdict(
        self, edit_id: str, candidate_id: str, kind: pb.VerdictKind.ValueType, **details: Any
    ) -> bool:
        """Tell what the person did; see `Client.record_verdict`."""
        verdict = make_verdict(edit_id, candidate_id, kind, **details)
        return (await self._call(self._stub.RecordVerdict, verdict)).created

    async def open_edit(
        self, edit: pb.Edit, *, max_reconnects: int = 5, timeout_s: float | None = None, **options: Any
    ) -> AsyncCritiqueStream:
        """Open an edit, for ``async with await client.open_edit(edit)``; see `Client.open_edit`."""
        state = StreamState(edit, make_options(**options), self._known)
        with tracing.span("client CritiqueStream"):
            stream = AsyncCritiqueStream(self._stub, self._endpoint, state, max_reconnects)
            await stream.wait_until_open(self._timeout_s if timeout_s is None else timeout_s)
        return stream

    async def _call(self, method: Callable[..., Awaitable[_Answer]], request: Any) -> _Answer:
        with tracing.span(f"client {type(request).__name__.removesuffix('Request')}"):
            try:
                return await method(request, timeout=self._timeout_s, metadata=self._endpoint.metadata())
            except grpc.RpcError as error:
                raise error_from_rpc(error, self._endpoint.address) from error


class AsyncCritiqueStream:
    """One edit that is open at the server. A task of its own sends, receives and reconnects.

    Attributes:
        opened: what the server said when it opened the edit: its name, the critic, the limits.
    """

    def __init__(
        self, stub: CriticServiceAsyncStub, endpoint: Endpoint, state: StreamState, max_reconnects: int
    ) -> None:
        self._stub = stub
        self._endpoint = endpoint
        self._state = state
        self._max_reconnects = max_reconnects
        self._outgoing: asyncio.Queue[pb.CritiqueStreamRequest] = asyncio.Queue()
        self._events: asyncio.Queue[pb.CritiqueStreamResponse | EditCriticError | None] = asyncio.Queue()
        self._is_open = asyncio.Event()
        self._failure: EditCriticError | None = None
        self._has_opened = False
        self.opened = pb.EditOpened()
        self._task = asyncio.create_task(self._run())

    async def __aenter__(self) -> AsyncCritiqueStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_until_open(self, timeout_s: float) -> None:
        """Return once the edit is open; see `CritiqueStream.wait_until_open`."""
        try:
            await asyncio.wait_for(self._is_open.wait(), timeout_s)
        except asyncio.TimeoutError as error:
            await self.close()
            raise DeadlineExceeded(
                f"{self._endpoint.address} did not open the edit within {timeout_s:.3g} s."
            ) from error
        # What happens after the opening is told where events are read.
        if self._failure is not None and not self._has_opened:
            raise self._failure

    async def candidate(self, candidate_id: str, picture: Picture | pb.Candidate, **details: Any) -> None:
        """Send a finished candidate; see `CritiqueStream.candidate`."""
        named = name_candidate(candidate_id, picture, details)
        self._add(pb.CritiqueStreamRequest(candidate=named))

    async def preview(
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
        """Send a candidate part-way through denoising; see `CritiqueStream.preview`."""
        named = name_candidate(candidate_id, picture, details)
        self._add(make_preview(named, fraction, step, step_count, sigma, engine))

    async def cancel(self, candidate_id: str) -> None:
        """Forget a candidate; its name may be used again."""
        self._state.cancel(candidate_id)
        self._send_ready()

    async def events(self) -> AsyncIterator[pb.CritiqueStreamResponse]:
        """What has come until now; see `CritiqueStream.events`."""
        while not self._events.empty():
            event = self._events.get_nowait()
            if event is None:
                return
            if isinstance(event, EditCriticError):
                raise event
            yield event

    async def finish(self) -> AsyncIterator[pb.CritiqueStreamResponse]:
        """Say that nothing more comes, and iterate over what is still due; see `CritiqueStream.finish`."""
        self._state.finish()
        self._send_ready()
        while (event := await self._events.get()) is not None:
            if isinstance(event, EditCriticError):
                raise event
            yield event

    async def close(self) -> None:
        """Leave the stream; the server drops what it has not judged. Safe to call twice."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _add(self, request: pb.CritiqueStreamRequest) -> None:
        if self._failure is not None:
            raise self._failure
        self._state.add(request)
        self._send_ready()

    def _send_ready(self) -> None:
        for request in self._state.take_requests():
            self._outgoing.put_nowait(request)

    async def _run(self) -> None:
        lost, answered_before = 0, 0
        while True:
            error = await self._converse()
            if error is None:
                break
            if self._state.wants_whole_edit(error):
                self._begin_anew()
                continue
            # Only answers count as progress: a candidate that brings the server down would be sent for ever.
            lost = 1 if self._state.answered_count > answered_before else lost + 1
            answered_before = self._state.answered_count
            if lost > self._max_reconnects or not is_worth_reconnecting(error):
                self._failure = error
                self._events.put_nowait(error)
                break
            await asyncio.sleep(backoff_s(lost))
            self._begin_anew()
        self._events.put_nowait(None)
        self._is_open.set()

    def _begin_anew(self) -> None:
        self._outgoing = asyncio.Queue()
        self._state.reconnect()

    async def _converse(self) -> EditCriticError | None:
        """One connection, from open to closed; or why it ended before."""
        call: Any = self._stub.CritiqueStream(metadata=self._endpoint.metadata())  # type: ignore[call-arg]
        sender = asyncio.create_task(self._send_all(call))
        try:
            # EOF is false, an answer that cannot be decoded is None, and every event is true.
            while event := await call.read():
                self._take(event)
            return None if self._state.is_closed else ended_early(self._endpoint.address)
        except grpc.RpcError as error:
            return error_from_rpc(error, self._endpoint.address)
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_all(self, call: Any) -> None:
        self._send_ready()
        while True:
            await call.write(await self._outgoing.get())

    def _take(self, event: pb.CritiqueStreamResponse) -> None:
        news = self._state.receive(event)
        self._send_ready()
        if event.HasField("opened"):
            self.opened, self._has_opened = event.opened, True
            self._is_open.set()
        if news is not None:
            self._events.put_nowait(news)
