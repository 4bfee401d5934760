"""Load on a critic server: candidates at their times on many open streams, and what became of each.

A closed loop keeps a number of candidates in flight. An open loop sends at the times of a Poisson process, whatever the
server does, and counts latency from the time at which a candidate was due, so that a server that stalls cannot hide the
candidates that it kept from being sent (Tene's "coordinated omission").
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import numpy as np

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.errors import error_from_status

__all__ = ["Load", "LoadStream", "Told", "closed_loop", "latency_figures", "open_loop", "open_streams"]

_ACCURATE_S = 0.002
_OPENED_AT_ONCE = 64  # gRPC drops calls at random once a thousand wait to be taken up


@dataclass
class Told:
    """What became of a load.

    Attributes:
        latencies_s: of every critique, from the time at which its candidate was due.
        outcomes: how many were judged, and how many refused, by reason.
        seconds: from the first due time to the last answer that was counted.
    """

    latencies_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Critiques a second."""
        return self.outcomes["judged"] / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Load:
    """What is sent: an edit, a candidate that answers it, and the options of the stream."""

    edit: pb.Edit
    candidate: pb.Candidate
    options: pb.CritiqueOptions = field(default_factory=pb.CritiqueOptions)


class LoadStream:
    """One open stream that sends candidates under the credit and notes every answer.

    Attributes:
        told: what became of them. answered: released once for each answer. last: the last answer.
    """

    def __init__(self, stub: Any, load: Load) -> None:
        self._stub, self._load = stub, load
        self._call: Any = None
        self._credit, self._writing = asyncio.Semaphore(0), asyncio.Lock()
        self._due: dict[str, float] = {}
        self._number = 0
        self._reader: asyncio.Task[None] | None = None
        self.told = Told()
        self.answered = asyncio.Semaphore(0)
        self.last: pb.Critique | pb.CandidateError = pb.Critique()

    async def open(self, sha256: bytes = b"") -> bytes:
        """Open the edit, whole or by its SHA-256, which is returned. Raises: grpc.RpcError."""
        self._call = self._stub.CritiqueStream()
        opening = pb.OpenEdit(edit=self._load.edit, options=self._load.options)
        if sha256:
            opening = pb.OpenEdit(edit_ref=pb.EditRef(sha256=sha256), options=self._load.options)
        await self._call.write(pb.CritiqueStreamRequest(open=opening))
        event = await self._call.read()
        self._give_credit(event.opened.credit_count)
        name: bytes = event.opened.edit_sha256
        self._reader = asyncio.create_task(self._read())
        return name

    async def send(self, due: float) -> None:
        """Send one candidate once there is credit; its latency counts from `due`, of `time.monotonic`."""
        await self._credit.acquire()
        self._number += 1
        request = pb.CritiqueStreamRequest()
        request.candidate.CopyFrom(self._load.candidate)
        request.candidate.candidate_id = str(self._number)
        self._due[request.candidate.candidate_id] = due
        async with self._writing:
            await self._call.write(request)

    async def close(self) -> None:
        """Leave; what is open is dropped."""
        if self._call is not None:
            self._call.cancel()
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    def _give_credit(self, count: int) -> None:
        for _ in range(count):
            self._credit.release()

    async def _read(self) -> None:
        while event := await self._call.read():
            kind = event.WhichOneof("event")
            if kind == "credit":
                self._give_credit(event.credit.count)
            elif kind == "critique":
                due = self._due.pop(event.critique.candidate_id)
                self.told.latencies_s.append(time.monotonic() - due)
                self.last = event.critique
                self._note("judged")
            elif kind == "candidate_error":
                self._due.pop(event.candidate_error.candidate_id)
                self.last = event.candidate_error
                self._note(error_from_status(event.candidate_error.status).reason_name)

    def _note(self, outcome: str) -> None:
        self.told.outcomes[outcome] += 1
        self.answered.release()


@asynccontextmanager
async def open_streams(
    address: str, load: Load, count: int, connections: int = 1
) -> AsyncIterator[list[LoadStream]]:
    """Streams over as many connections, each a caller of its own; closed when the block ends.

    The first is sent the edit, the others its name.
    """
    alone = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=alone) for _ in range(connections)]
    stubs: list[Any] = [critic_pb2_grpc.CriticServiceStub(channel) for channel in channels]
    streams = [LoadStream(stubs[number % connections], load) for number in range(count)]
    try:
        sha256 = await streams[0].open()
        for begin in range(1, count, _OPENED_AT_ONCE):
            await asyncio.gather(*(each.open(sha256) for each in streams[begin : begin + _OPENED_AT_ONCE]))
        yield streams
    finally:
        await asyncio.gather(*(stream.close() for stream in streams))
        await asyncio.gather(*(channel.close(None) for channel in channels))


async def closed_loop(streams: Sequence[LoadStream], in_flight: int, seconds: float) -> Told:
    """Keep `in_flight` candidates unanswered on each stream for so long."""
    end = time.monotonic() + seconds

    async def one(stream: LoadStream) -> None:
        while time.monotonic() < end:
            await stream.send(time.monotonic())
            await stream.answered.acquire()

    return await _during(streams, [one(stream) for stream in streams for _ in range(in_flight)])


async def open_loop(streams: Sequence[LoadStream], rate: float, seconds: float, seed: int) -> Told:
    """Send at a mean rate of so many a second, over the streams in turns, for so long; then wait for the answers."""
    rng, begin = np.random.default_rng(seed), time.monotonic()
    due = begin + np.cumsum(rng.exponential(1 / rate, max(1, round(rate * seconds))))

    async def one(stream: LoadStream, times: Sequence[float]) -> None:
        for when in times:
            if (pause := when - time.monotonic()) > _ACCURATE_S:
                await asyncio.sleep(pause)
            await stream.send(when)
        for _ in times:
            await stream.answered.acquire()

    shares = [[float(each) for each in due[number :: len(streams)]] for number in range(len(streams))]
    return await _during(streams, [one(*each) for each in zip(streams, shares, strict=True)])


async def _during(streams: Sequence[LoadStream], work: Sequence[Any]) -> Told:
    begin = time.monotonic()
    for stream in streams:
        stream.told = Told()
    await asyncio.gather(*work)
    whole = Told(seconds=time.monotonic() - begin)
    for stream in streams:
        whole.latencies_s += stream.told.latencies_s
        whole.outcomes += stream.told.outcomes
    return whole


def latency_figures(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds at p50, p90, p99 and p99.9, the largest, and how many there were."""
    if not seconds:
        return {"count": 0}
    marks: dict[str, Callable[[Any], Any]] = {
        "p50": _at(50),
        "p90": _at(90),
        "p99": _at(99),
        "p99.9": _at(99.9),
    }
    told = {name: 1000 * float(mark(seconds)) for name, mark in marks.items()}
    return told | {"max": 1000 * max(seconds), "count": len(seconds)}


def _at(percent: float) -> Callable[[Any], Any]:
    return lambda values: np.percentile(values, percent)
