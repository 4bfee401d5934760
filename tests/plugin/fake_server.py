"""A server that misbehaves on purpose, to see what the clients make of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import NotFound

Script = Callable[[Iterator[pb.CritiqueStreamRequest], grpc.ServicerContext], Iterator[Any]]


class FakeCritic(critic_pb2_grpc.CriticServiceServicer):
    """Answers each stream by the next of its scripts, and keeps what it was sent.

    Attributes:
        sent: for each stream, the actions in order: "open" or "open by name", candidate ids, "finish".
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.sent: list[list[str]] = []

    def CritiqueStream(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        told: list[str] = []
        self.sent.append(told)
        script = self._scripts[min(len(self.sent), len(self._scripts)) - 1]
        yield from script(noting(request_iterator, told), context)


class ClosingCritic(critic_pb2_grpc.CriticServiceServicer):
    """Ends its first `count` calls as gRPC does that meet a closing connection; answers those after.

    Attributes:
        call_count: calls that came, so far.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.call_count = 0

    def Critique(self, request: pb.CritiqueRequest, context: Any) -> pb.CritiqueResponse:
        self.call_count += 1
        if self.call_count <= self._count:
            context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        scores = pb.Scores(overall=pb.Score(value=61.0))
        return pb.CritiqueResponse(critique=pb.Critique(scores=scores))


def noting(requests: Iterator[pb.CritiqueStreamRequest], told: list[str]) -> Iterator[Any]:
    for request in requests:
        action = request.WhichOneof("action")
        if action == "candidate":
            told.append(request.candidate.candidate_id)
        elif action == "preview":
            told.append(f"{request.preview.candidate.candidate_id}@{request.preview.progress.fraction:g}")
        elif action == "open" and request.open.HasField("edit_ref"):
            told.append("open by name")
        else:
            told.append(str(action))
        yield request


def answering(
    count: float = float("inf"),
    then: Callable[[Any], None] | None = None,
    credit: int = 8,
    sha256: bytes = b"",
) -> Script:
    """Opens the edit and answers `count` candidates; then does `then` with the call, or goes on."""

    def script(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        left = count
        for request in requests:
            action = request.WhichOneof("action")
            if action == "open":
                opened = pb.EditOpened(edit_id="fake", credit_count=credit, edit_sha256=sha256)
                yield pb.CritiqueStreamResponse(opened=opened)
            elif action == "finish":
                yield pb.CritiqueStreamResponse(closed=pb.EditClosed())
                return
            elif left > 0:
                yield answer(request)
                yield pb.CritiqueStreamResponse(credit=pb.Credit(count=1))
                left -= 1
            if left <= 0 and then is not None:
                then(context)

    return script


def answer(request: pb.CritiqueStreamRequest) -> pb.CritiqueStreamResponse:
    if request.HasField("preview"):
        critique = pb.Critique(
            candidate_id=request.preview.candidate.candidate_id, progress=request.preview.progress
        )
    else:
        critique = pb.Critique(candidate_id=request.candidate.candidate_id)
    return pb.CritiqueStreamResponse(critique=critique)


def die(context: Any) -> None:
    """What a client sees of a server process that was killed a moment after its last answer was read."""
    time.sleep(0.2)
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def forgetful(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    """A server that keeps no edit: it refuses one that comes by name, and answers one that comes whole."""
    first = next(requests)
    if first.open.HasField("edit_ref"):
        error = NotFound("not kept", reason=pb.ERROR_REASON_EDIT_NOT_KEPT)
        context.set_trailing_metadata((("grpc-status-details-bin", error.to_status().SerializeToString()),))
        context.abort(grpc.StatusCode.NOT_FOUND, "not kept")
    yield from answering(sha256=b"other")(itertools.chain([first], requests), context)


@contextmanager
def serving_fake(servicer: critic_pb2_grpc.CriticServiceServicer) -> Iterator[str]:
    """The address of a server with that servicer."""
    server = grpc.server(ThreadPoolExecutor(8))
    critic_pb2_grpc.add_CriticServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
