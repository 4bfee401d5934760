"""Callers for a soak: calls and streams in turns, some of them cancelled at every stage, every score checked.

Cancelling is done where gRPC is known to leak when it is answered wrongly (grpc/grpc#43360): while a message is on its
way, while answers are being written, and while a read is pending.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import grpc.aio
import numpy as np

from editcritic.plugin.channels import Endpoint
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.images import encode_image, encode_mask

__all__ = ["SoakCaller", "SoakCase", "Tally", "make_cases"]

Metadata: TypeAlias = "tuple[tuple[str, str], ...]"
SIDE_PX = 128
REGION_PX = 64
"""Of the photographs, and of the crops that are judged."""
_TOLERANCE = 1e-4
_STREAMED = 0.7
_LONGEST_STREAM = 12
_VISITS_PER_CONNECTION = 250
_CANCEL_WITHIN_S = 0.01


@dataclass(frozen=True)
class SoakCase:
    """An edit, candidates for it, and the overall value that each has, once it was asked for."""

    edit: pb.Edit
    candidates: tuple[pb.Candidate, ...]
    expected: list[float] = field(default_factory=list)


@dataclass
class Tally:
    """What became of it: scores that came, and calls by how they ended."""

    scores: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    def check(self, case: SoakCase, index: int, critique: pb.Critique) -> None:
        """Count a score; one that is another candidate's, or changed, is told apart."""
        self.scores += 1
        if abs(critique.scores.overall.value - case.expected[index]) > _TOLERANCE:
            self.calls["WRONG SCORE"] += 1


def make_cases(edits: int, candidates: int, seed: int) -> list[SoakCase]:
    """Noisy gradients with a square to fill, and flat fills of different brightness as raw crops."""
    rng = np.random.default_rng(seed)
    return [_case(rng, candidates) for _ in range(edits)]


def _case(rng: np.random.Generator, candidates: int) -> SoakCase:
    ramp = np.linspace(40, 200, SIDE_PX)[None, :, None] + rng.normal(0, 5, (SIDE_PX, SIDE_PX, 3))
    source = np.clip(ramp, 0, 255).astype(np.uint8)
    corner = (SIDE_PX - REGION_PX) // 2
    inside = slice(corner, corner + REGION_PX)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    mask[inside, inside] = 1.0
    region = pb.Box(x=corner, y=corner, width=REGION_PX, height=REGION_PX)
    crops = []
    for _ in range(candidates):
        fill = np.clip(source[inside, inside] + rng.integers(-90, 90), 0, 255).astype(np.uint8)
        raw = pb.RawImage(
            pixel_format=pb.PIXEL_FORMAT_RGB8, width=REGION_PX, height=REGION_PX, data=fill.tobytes()
        )
        crops.append(pb.Candidate(image=pb.Image(raw=raw), region=region))
    return SoakCase(pb.Edit(source=encode_image(source), denoise_mask=encode_mask(mask)), tuple(crops))


class SoakCaller:
    """One visit after the other over a connection of its own, which is now and then opened anew.

    Args:
        endpoint: of the server. cases: what is asked about. tally: what came of it.
        cancelled: share of the visits that are cancelled. seed: of what is asked when.
    """

    def __init__(
        self, endpoint: Endpoint, cases: Sequence[SoakCase], tally: Tally, cancelled: float, seed: int
    ) -> None:
        self._endpoint, self._cases, self._tally = endpoint, cases, tally
        self._cancelled, self._random = cancelled, random.Random(seed)  # noqa: S311
        self._metadata: Metadata = endpoint.metadata()

    async def learn(self) -> None:
        """Ask once about every candidate, for the values that are expected from then on. Raises: grpc.RpcError."""
        async with self._connection() as channel:
            critique: Any = critic_pb2_grpc.CriticServiceStub(channel).Critique
            for case in self._cases:
                for candidate in case.candidates:
                    request = pb.CritiqueRequest(edit=case.edit, candidate=candidate)
                    answer = await critique(request, metadata=self._metadata)
                    case.expected.append(answer.critique.scores.overall.value)

    def _connection(self) -> grpc.aio.Channel:
        # Channels of one process share their connections otherwise, and would be one caller.
        return grpc.aio.insecure_channel(
            self._endpoint.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )

    async def visit(self, is_over: Callable[[], bool]) -> None:
        """Go on until it is over."""
        while not is_over():
            async with self._connection() as channel:
                stub: Any = critic_pb2_grpc.CriticServiceStub(channel)
                for _ in range(_VISITS_PER_CONNECTION):
                    if is_over():
                        return
                    self._tally.calls[await self._one(stub)] += 1

    async def _one(self, stub: Any) -> str:
        case = self._random.choice(self._cases)
        is_cancelled = self._random.random() < self._cancelled
        work = self._stream if self._random.random() < _STREAMED else self._call
        try:
            await work(stub, case, is_cancelled)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        except asyncio.InvalidStateError:
            # A write on a call that the server has ended; its status is with the call.
            return "ENDED"
        return "cancelled" if is_cancelled else "finished"

    async def _call(self, stub: Any, case: SoakCase, is_cancelled: bool) -> None:
        index = self._random.randrange(len(case.candidates))
        request = pb.CritiqueRequest(edit=case.edit, candidate=case.candidates[index])
        call = stub.Critique(request, metadata=self._metadata)
        if not is_cancelled:
            self._tally.check(case, index, (await call).critique)
            return
        await asyncio.sleep(_CANCEL_WITHIN_S * self._random.random())
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    async def _stream(self, stub: Any, case: SoakCase, is_cancelled: bool) -> None:
        call = stub.CritiqueStream(metadata=self._metadata)
        await call.write(pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=case.edit)))
        sent = [
            self._random.randrange(len(case.candidates))
            for _ in range(self._random.randint(1, _LONGEST_STREAM))
        ]
        if is_cancelled:
            await self._leave_early(call, case, sent)
            return
        await self._send(call, case, sent)
        await call.write(pb.CritiqueStreamRequest(finish=pb.FinishEdit()))
        while event := await call.read():
            self._note(case, sent, event)

    async def _leave_early(self, call: Any, case: SoakCase, sent: list[int]) -> None:
        if self._random.random() < 0.8:
            await call.read()
            await self._send(call, case, sent)
            for _ in range(self._random.randrange(len(sent))):
                self._note(case, sent, await call.read())
        pending = asyncio.ensure_future(call.read())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(pending, return_exceptions=True)

    async def _send(self, call: Any, case: SoakCase, sent: list[int]) -> None:
        for number, index in enumerate(sent):
            candidate = pb.Candidate()
            candidate.CopyFrom(case.candidates[index])
            candidate.candidate_id = str(number)
            await call.write(pb.CritiqueStreamRequest(candidate=candidate))

    def _note(self, case: SoakCase, sent: list[int], event: pb.CritiqueStreamResponse) -> None:
        kind = event.WhichOneof("event")
        if kind == "critique":
            self._tally.check(case, sent[int(event.critique.candidate_id)], event.critique)
        elif kind in ("candidate_error", "dropped"):
            self._tally.calls[f"a candidate: {kind}"] += 1
