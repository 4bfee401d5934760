"""How the tests talk to the HTTP face: as an editor does, with nothing but a socket and JSON."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.message import Message

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
# Of its own: the server in the same process uses the loop's.
_THREADS = ThreadPoolExecutor(32)


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.data.splitlines()]

    @property
    def reason(self) -> str:
        """Of the ErrorInfo."""
        return next((each["reason"] for each in self.json["details"] if "reason" in each), "")


def as_json(message: Message) -> bytes:
    return json.dumps(json_format.MessageToDict(message)).encode()


async def ask(
    address: str,
    path: str,
    body: bytes | Message | Iterable[Message] | None = None,
    method: str = "POST",
    **headers: str,
) -> Answer:
    """One request; a message goes as JSON, several as lines. Headers with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, Message):
        body = as_json(body)
    elif body is not None and not isinstance(body, bytes):
        body, named = b"\n".join(map(as_json, body)), {**LINES, **named}
    content = JSON if body is not None and "Content-Type" not in named else {}

    def exchange() -> Answer:
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request(method, f"/v1/{path}", body, {**content, **named})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(_THREADS, exchange)


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def head(path: str, length: int | None, *, address: str = "127.0.0.1", **headers: str) -> bytes:
    """The start of a POST by hand; without a length the body goes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST /v1/{path} HTTP/1.1", f"Host: {address}", "Content-Type: application/json", size]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def said(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes the connection."""
    return await asyncio.wait_for(reader.read(), 60)
