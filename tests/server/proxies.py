"""A proxy that lets a client's bytes through slowly, or no further."""

from __future__ import annotations

import asyncio
import contextlib
import math

__all__ = ["SlowProxy"]


class SlowProxy:
    """Passes what the server says on at once, and what the client says up to `budget`, then one byte every `pace_s`.

    Args:
        target: ``host:port`` of the server. pace_s: of the slow part; infinity stops it.

    Attributes:
        address: where it listens. budget: bytes of all clients that pass at once. passed: bytes that did pass.
    """

    def __init__(self, target: str, pace_s: float = 0.02) -> None:
        self._host, _, port = target.rpartition(":")
        self._port, self._pace_s = int(port), pace_s
        self._tasks, self._writers = set[asyncio.Task[None]](), list[asyncio.StreamWriter]()
        self.address, self.budget, self.passed = "", math.inf, 0

    async def __aenter__(self) -> SlowProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def slow_down(self) -> None:
        """From now on byte by byte."""
        self.budget = self.passed

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        for work in (self._forward(reader, far_writer), self._back(far_reader, writer)):
            self._tasks.add(asyncio.create_task(work))

    async def _back(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        # Either side may be gone before the other.
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                await _write(data, target)
        target.close()

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Read all that comes, so that the end is seen at once; what has not passed by then is lost."""
        held = bytearray()
        passing = asyncio.create_task(self._pass(held, target))
        self._tasks.add(passing)
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                held += data
        passing.cancel()
        target.close()

    async def _pass(self, held: bytearray, target: asyncio.StreamWriter) -> None:
        while True:
            count = int(max(0, min(len(held), self.budget - self.passed)))
            if not count:
                await asyncio.sleep(min(self._pace_s, 3600.0) if held else 0.002)
                count = min(1, len(held)) if self.passed >= self.budget else 0
            part = bytes(held[:count])
            del held[:count]
            with contextlib.suppress(ConnectionError):
                await _write(part, target)
            self.passed += count


async def _write(data: bytes, target: asyncio.StreamWriter) -> None:
    target.write(data)
    await target.drain()
