"""Servers of one critic side by side, ours and others, each asked for the same scores of the same pictures."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc.aio
import numpy as np
from google.rpc import status_pb2

from editcritic.plugin.client import make_candidate, make_edit
from editcritic.plugin.load import Load, LoadStream, open_streams
from editcritic.plugin.peers import flask_peer
from editcritic.plugin.peers.judge import scores_of
from editcritic.plugin.peers.process import PeerProcess
from editcritic.server.critics.base import DecodedCandidate, DecodedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import EditCriticError, ServerUnavailable, error_from_status
from editcritic.v1.images import encode_image

__all__ = ["PEERS", "Ask", "Contender", "Peer", "Refused", "our_call", "our_stream", "peer"]

Scores: TypeAlias = dict[str, float]
Ask: TypeAlias = Callable[[], Awaitable[Scores]]
Connect: TypeAlias = Callable[[int, bool], AbstractAsyncContextManager[list[Ask]]]

_CONNECTIONS = 4
_DETAILS_KEY = "grpc-status-details-bin"
_START_TIMEOUT_S = 180.0
_POLL_S = 0.25


class Refused(Exception):
    """A server answered, and not with scores; the message says how."""


@dataclass(frozen=True)
class Contender:
    """A server that can be asked.

    Attributes:
        name: for tables.
        byte_count: of one request.
        connect: to so many callers, each with one request at a time; with True, their picture is cut in half.
    """

    name: str
    byte_count: int
    connect: Connect


def our_stream(address: str, load: Load) -> Contender:
    """Our server by open streams: the edit is sent once, then crops of raw pixels."""

    @asynccontextmanager
    async def connect(count: int, is_spoiled: bool) -> AsyncIterator[list[Ask]]:
        sent = pb.Candidate()
        sent.CopyFrom(load.candidate)
        if is_spoiled:
            sent.image.raw.data = sent.image.raw.data[: len(sent.image.raw.data) // 2]
        spoiled = Load(load.edit, sent, load.options)
        async with open_streams(address, spoiled, count, min(count, _CONNECTIONS)) as streams:
            yield [partial(_ask_stream, stream) for stream in streams]

    return Contender("editcritic, stream", load.candidate.ByteSize(), connect)


async def _ask_stream(stream: LoadStream) -> Scores:
    await stream.send(time.monotonic())
    await stream.answered.acquire()
    if isinstance(stream.last, pb.CandidateError):
        raise Refused(_told(error_from_status(stream.last.status)))
    return scores_of(stream.last)


def our_call(
    address: str, edit: DecodedEdit, candidate: DecodedCandidate, options: pb.CritiqueOptions
) -> Contender:
    """Our server by single calls with whole pictures as PNG, as the peers get them."""
    request = pb.CritiqueRequest(
        edit=make_edit(edit.source, edit.denoise_mask),
        candidate=make_candidate(candidate.image),
        options=options,
    )
    spoiled = pb.CritiqueRequest()
    spoiled.CopyFrom(request)
    file = spoiled.candidate.image.encoded
    file.data = file.data[: len(file.data) // 2]

    @asynccontextmanager
    async def connect(count: int, is_spoiled: bool) -> AsyncIterator[list[Ask]]:
        alone = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            grpc.aio.insecure_channel(address, options=alone) for _ in range(min(count, _CONNECTIONS))
        ]
        stubs: list[Any] = [critic_pb2_grpc.CriticServiceStub(channel) for channel in channels]
        sent = spoiled if is_spoiled else request
        try:
            yield [partial(_ask_call, stubs[number % len(stubs)], sent) for number in range(count)]
        finally:
            await asyncio.gather(*(channel.close(None) for channel in channels))

    return Contender("editcritic, calls", request.ByteSize(), connect)


async def _ask_call(stub: Any, request: pb.CritiqueRequest) -> Scores:
    try:
        answer = await stub.Critique(request)
    except grpc.aio.AioRpcError as error:
        trailing: Any = error.trailing_metadata() or ()
        details = dict(trailing).get(_DETAILS_KEY)
        if not details:
            raise Refused(error.code().name) from error
        raise Refused(_told(error_from_status(status_pb2.Status.FromString(details)))) from error
    return scores_of(answer.critique)


def _told(error: EditCriticError) -> str:
    return error.reason_name


@dataclass(frozen=True)
class Peer:
    """Another server.

    Attributes:
        title: for tables.
        module: its program.
        needs: packages that it takes, by their import names.
        body: of a request, from a source, a mask and a candidate, (H, W[, 3]) uint8.
        spoil: the body with a picture cut in half.
        read: the scores of an answer.
        content_type: of the body.
    """

    title: str
    module: str
    needs: tuple[str, ...]
    body: Callable[[Mapping[str, Any]], bytes]
    spoil: Callable[[bytes], bytes]
    read: Callable[[bytes], Scores]
    content_type: str = "application/json"

    @property
    def missing(self) -> str:
        """Why it cannot be measured here; empty when it can."""
        absent = [name for name in (*self.needs, "aiohttp") if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} is missing: pip install 'editcritic[peers]'" if absent else ""


def _json_body(pictures: Mapping[str, Any]) -> bytes:
    files = {name: encode_image(each).encoded.data for name, each in pictures.items()}
    return json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()}).encode()


def _spoilt_json(body: bytes) -> bytes:
    files = json.loads(body)
    data = base64.b64decode(files["candidate"])
    files["candidate"] = base64.b64encode(data[: len(data) // 2]).decode()
    return json.dumps(files).encode()


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


_PEERS_PACKAGE = "editcritic.plugin.peers"
PEERS: Mapping[str, Peer] = {
    "flask": Peer(
        "Flask + pickle",
        f"{_PEERS_PACKAGE}.flask_peer",
        ("flask", "werkzeug"),
        flask_peer.pickled,
        _half,
        flask_peer.unpickled,
        "application/octet-stream",
    ),
    "litserve": Peer(
        "LitServe", f"{_PEERS_PACKAGE}.litserve_peer", ("litserve",), _json_body, _spoilt_json, json.loads
    ),
    "ray": Peer(
        "Ray Serve", f"{_PEERS_PACKAGE}.ray_peer", ("ray", "starlette"), _json_body, _spoilt_json, json.loads
    ),
}
"""Those that ours can be measured against, by the name that the command line gives them."""


def peer(
    kind: Peer, critic: str, workers: int, edit: DecodedEdit, candidate: DecodedCandidate
) -> AbstractContextManager[Contender]:
    """A peer's process that answers, for as long as the block lasts.

    Raises:
        ServerUnavailable: it does not start.
    """
    mask = np.round(edit.denoise_mask * 255).astype(np.uint8)
    body = kind.body({"source": edit.source, "mask": mask, "candidate": candidate.image})
    return _running(kind, critic, workers, body)


@contextmanager
def _running(kind: Peer, critic: str, workers: int, body: bytes) -> Iterator[Contender]:
    with PeerProcess(kind.module, critic, workers) as process:
        url = f"http://127.0.0.1:{process.port}/judge"

        def connect(count: int, is_spoiled: bool) -> AbstractAsyncContextManager[list[Ask]]:
            return _http(url, kind, kind.spoil(body) if is_spoiled else body, count)

        asyncio.run(_ready(process, connect))
        yield Contender(kind.title, len(body), connect)


@asynccontextmanager
async def _http(url: str, kind: Peer, body: bytes, count: int) -> AsyncIterator[list[Ask]]:
    import aiohttp

    headers = {"Content-Type": kind.content_type}

    async def ask(*, is_again: bool = False) -> Scores:
        try:
            async with session.post(url, data=io.BytesIO(body), headers=headers) as answer:
                content = await answer.read()
        except aiohttp.ClientConnectionError as error:
            if is_again:
                raise Refused(f"connection lost ({type(error).__name__})") from error
            # A server may let go of an open connection in the moment in which it is used again.
            return await ask(is_again=True)
        if answer.status != 200:
            raise Refused(f"HTTP {answer.status}")
        return kind.read(content)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=count)) as session:
        yield [ask] * count


async def _ready(process: PeerProcess, connect: Connect) -> None:
    """Return once it gives scores."""
    end, why = time.monotonic() + _START_TIMEOUT_S, "it said nothing"
    while process.is_alive and time.monotonic() < end:
        try:
            async with connect(1, False) as (ask,):
                await asyncio.wait_for(ask(), end - time.monotonic())
        except (Refused, asyncio.TimeoutError) as error:
            why = str(error)
            await asyncio.sleep(_POLL_S)
        else:
            return
    raise ServerUnavailable(f"it did not start ({why}): {process.last_words}")
