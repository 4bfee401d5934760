"""How the tests of the server talk to a stream and read its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import status_pb2

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, error_from_status


class Stream:
    """One `CritiqueStream` call, spoken message by message."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, **action: Any) -> None:
        await self.call.write(pb.CritiqueStreamRequest(**action))

    async def open(self, edit: pb.Edit, **options: Any) -> pb.EditOpened:
        await self.send(open=pb.OpenEdit(edit=edit, options=pb.CritiqueOptions(**options)))
        return (await self.next()).opened

    async def preview(self, candidate: pb.Candidate, fraction: float) -> None:
        progress = pb.DenoisingProgress(fraction=fraction)
        await self.send(preview=pb.Preview(candidate=candidate, progress=progress))

    async def next(self) -> pb.CritiqueStreamResponse:
        event = await self.call.read()
        assert event is not grpc.aio.EOF, "the stream ended"
        return event

    async def finish(self) -> list[pb.CritiqueStreamResponse]:
        """Finish the edit; everything that still came, up to and with `closed`."""
        await self.send(finish=pb.FinishEdit())
        events = []
        while (event := await self.call.read()) is not grpc.aio.EOF:
            events.append(event)
        return events


async def refusal(call: Awaitable[Any]) -> EditCriticError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return as_error(caught.value)


def as_error(error: grpc.aio.AioRpcError) -> EditCriticError:
    trailers = dict(error.trailing_metadata() or ())
    details = trailers.get("grpc-status-details-bin", b"")
    if not details:
        return error_from_status(status_pb2.Status(code=error.code().value[0], message=error.details()))
    status = status_pb2.Status.FromString(details)
    assert status.code == error.code().value[0]
    return error_from_status(status)


def kinds(events: list[pb.CritiqueStreamResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


async def wait_until(condition: Callable[[], bool]) -> None:
    """Give the server up to half a minute to reach a state."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the state was not reached")
