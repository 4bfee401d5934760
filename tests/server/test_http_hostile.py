"""Whatever comes over HTTP: a typed refusal, bounded memory and time, and a server that goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editcritic.server.http_face import wire
from editcritic.server.http_face.origins import Origins
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, PermissionDenied
from tests.server.http_speaking import JSON, Answer, as_json, ask, connect, head
from tests.server.speaking import wait_until

MakeCandidate = Callable[..., pb.Candidate]
Serving = Callable[..., AbstractAsyncContextManager[Any]]
PATH = "CriticService/Critique"


@pytest.fixture
async def server(serving: Serving) -> AsyncIterator[Any]:
    """A server with small limits that still answers at the end of the test."""
    limits = {"max_message_bytes": 1 << 20, "http_request_timeout_s": 1.0, "idle_timeout_s": 2.0}
    async with serving(http="127.0.0.1:0", **limits) as (server, _):
        yield server
        answer = await ask(server.http_address, "CriticService/ListCritics", b"{}")
        assert answer.status == 200
        await wait_until(lambda: not server._http._face._calls)
        assert server._http._face._room.byte_count == 0


HOSTILE: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"no JSON", "Expecting value"),
    "no object": (b'["edit"]', "an object is expected, a list came"),
    "a number": (b"7", "an object is expected, a number came"),
    "null": (b"null", "an object is expected, null came"),
    "cut short": (b'{"edit": {"prompt": "a red', "Unterminated string"),
    "two of them": (b"{}{}", "Extra data"),
    "an unknown field": (b'{"edit": {"sauce": 1}}', "at edit.sauce: Edit has no field 'sauce'"),
    "an unknown field of a list": (b'{"edit": [{}]}', "edit"),
    "nested as deep as it goes": (b"[" * 40_000 + b"]" * 40_000, "nested too deep"),
    "an object nested as deep as it goes": (b'{"edit":' * 20_000, "nested too deep"),
    "a million empty lists": (b"[" + b"[]," * 300_000 + b"[]]", "over 50,000 values"),
    "a number without end": (b'{"candidate": {"seed": ' + b"9" * 9000 + b"}}", "has 9,000 digits"),
    "a number out of range": (b'{"options": {"budgetMs": 99999999999}}', "budgetMs"),
    "an endless float": (b'{"progress": {"fraction": 1e999}}', "fraction"),
    "NaN": (b'{"progress": {"fraction": NaN}}', "NaN is no JSON"),
    "-Infinity": (b'{"progress": {"fraction": -Infinity}}', "-Infinity is no JSON"),
    "text for a number": (b'{"progress": {"fraction": "half"}}', "fraction"),
    "a number for text": (b'{"edit": {"prompt": 5}}', "prompt"),
    "a list for text": (b'{"edit": {"prompt": ["x"]}}', "prompt"),
    "an object for a picture": (b'{"edit": {"source": {"encoded": {"data": {}}}}}', "base64 is expected"),
    "no base64": (
        b'{"edit": {"source": {"encoded": {"data": "####"}}}}',
        "at edit.source.encoded.data: base64",
    ),
    "base64 with its end in the middle": (
        b'{"edit": {"source": {"encoded": {"data": "AA==AAAA"}}}}',
        "base64 is",
    ),
    "base64 of other letters": ('{"edit": {"source": {"encoded": {"data": "ÄÖÜß"}}}}'.encode(), "base64 is"),
    "base64 of the wrong length": (b'{"edit": {"source": {"encoded": {"data": "AAAAA"}}}}', "data"),
    "base64 with a line's end": (
        b'{"edit": {"source": {"encoded": {"data": "AA\\nAA"}}}}',
        "base64 is expected",
    ),
    "a field twice": (b'{"edit": {"prompt": "a", "prompt": "b"}}', "'prompt' is there twice"),
    "a field by both its names": (b'{"edit": {"editId": "a", "edit_id": "b"}}', "by both its names"),
    "two of a choice": (b'{"edit": {"source": {"encoded": {}, "raw": {}}}}', "source"),
    "no UTF-8": (b'{"edit": {"prompt": "\xff\xfe"}}', "utf-8"),
    "UTF-16": ('{"edit": {}}'.encode("utf-16"), "utf-8"),
    "half a surrogate": (b'{"edit": {"prompt": "\\ud800"}}', ""),
    "a mark before it": (b"\xef\xbb\xbf{}", "BOM"),
    "an unknown name of an enum": (b'{"options": {"priority": "PRIORITY_FIRST"}}', "priority"),
    "a NUL in a name": (b'{"edit\\u0000": {}}', "has no field"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_no_message_is_refused_and_the_field_is_named(server: Any, name: str) -> None:
    body, told = HOSTILE[name]
    answer = await ask(server.http_address, PATH, body)
    assert (answer.status, answer.reason) == (400, "MESSAGE_UNDECODABLE"), answer.data
    assert told in answer.json["message"]
    assert len(answer.data) < 2000


async def test_a_line_that_is_no_message_ends_the_stream_with_its_name(server: Any, edit: pb.Edit) -> None:
    opening = as_json(pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit)))
    lines = {"Content-Type": "application/x-ndjson"}
    answer = await ask(server.http_address, "CriticService/CritiqueStream", b'{"opened": {}}\n', **lines)
    assert (answer.status, answer.reason) == (400, "MESSAGE_UNDECODABLE")
    broken = opening + b'\n\n{"opened": {}}\n'
    answer = await ask(server.http_address, "CriticService/CritiqueStream", broken, **lines)
    assert answer.status == 200
    assert "has no field 'opened'" in answer.lines[-1]["error"]["message"]


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_request_over_the_limit_is_refused_before_it_is_read(server: Any, is_declared: bool) -> None:
    reader, writer = await connect(server.http_address)
    if is_declared:
        writer.write(head(PATH, 2 << 30))
    else:
        writer.write(head(PATH, None) + b"%x\r\n" % (2 << 20) + b" " * ((1 << 20) + 1))
    status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 413 " in status
    assert b"over 1,048,576 bytes" in await asyncio.wait_for(reader.read(4096), 10)
    writer.close()


async def test_a_client_that_sends_before_it_reads_still_sees_why_it_was_refused(server: Any) -> None:
    answer = await ask(server.http_address, PATH, b" " * (8 << 20))
    assert (answer.status, answer.json["code"]) == (413, "INVALID_ARGUMENT")
    assert "retry-after" not in answer.headers


async def test_a_line_over_the_limit_ends_the_stream(server: Any) -> None:
    body = b'{"candidate": {"candidateId": "' + b"a" * (2 << 20)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await ask(server.http_address, "CriticService/CritiqueStream", body, **headers)
    assert answer.status == 413


async def test_many_lines_may_be_more_than_one_message_may(
    server: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = pb.CritiqueStreamRequest
    blank = b" " * 400_000 + b"\n"
    lines = [request(open=pb.OpenEdit(edit=edit)), request(candidate=make_candidate()), request(finish={})]
    body = blank.join([*(as_json(line) + b"\n" for line in lines), b"", b""])
    assert len(body) > server.settings.max_message_bytes
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await ask(server.http_address, "CriticService/CritiqueStream", body, **headers)
    assert "closed" in answer.lines[-1]["result"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "br, gzip"},
    ],
    ids=str,
)
async def test_forms_and_packed_requests_are_not_taken(server: Any, headers: dict[str, str]) -> None:
    body = gzip.compress(b"{}") if "Content-Encoding" in headers else b"{}"
    answer = await ask(server.http_address, "CriticService/ListCritics", body, **headers)
    assert (answer.status, answer.json["code"]) == (415, "INVALID_ARGUMENT")


async def test_a_body_that_does_not_come_is_given_up(server: Any) -> None:
    reader, writer = await connect(server.http_address)
    writer.write(head(PATH, 1000) + b'{"edit"')
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()


async def test_a_body_that_drips_is_given_up(server: Any) -> None:
    reader, writer = await connect(server.http_address)
    writer.write(head(PATH, 1000))
    status = asyncio.create_task(reader.readline())
    while not status.done():
        writer.write(b" ")
        await asyncio.sleep(0.05)
    assert b" 408 " in await status
    writer.close()


@pytest.mark.parametrize("start", [b"", b"POST /v1/health HT", b"POST /v1/health HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_is_given_up(server: Any, start: bytes) -> None:
    reader, writer = await connect(server.http_address)
    writer.write(start)
    assert await asyncio.wait_for(_until_closed(reader), 10) == b""
    writer.close()


async def _until_closed(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_second_head_on_a_connection_has_as_much_time(server: Any) -> None:
    reader, writer = await connect(server.http_address)
    writer.write(head("CriticService/ListCritics", 2) + b"{}")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"POST /v1/")
    assert b'"dummy"' in await asyncio.wait_for(_until_closed(reader), 10)
    writer.close()


async def test_an_answer_that_nobody_reads_is_forgotten(serving: Serving) -> None:
    long = {"max_prompt_chars": 10, "idle_timeout_s": 0.3, "http_request_timeout_s": 30.0}
    async with serving(http="127.0.0.1:0", **long) as (server, _):
        face = server._http._face
        face._openapi = b" " * (64 << 20)
        _, writer = await connect(server.http_address)
        writer.write(b"GET /v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await wait_until(lambda: len(server._http._state.connections) == 1)
        await wait_until(lambda: not server._http._state.connections)
        writer.close()


@pytest.mark.parametrize(
    "request_head",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /v1/health HTTP/1.1\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda value: repr(value[:40]),
)
async def test_what_is_no_http_is_refused(server: Any, request_head: bytes) -> None:
    reader, writer = await connect(server.http_address)
    writer.write(request_head)
    status = await asyncio.wait_for(reader.readline(), 10)
    assert not status or status.split()[1] in (b"400", b"403", b"431")
    writer.close()


async def test_connections_beyond_the_limit_are_closed(serving: Serving) -> None:
    async with serving(http="127.0.0.1:0", max_streams=3) as (server, _):
        opened = [await connect(server.http_address) for _ in range(5)]
        ends = [await asyncio.wait_for(_until_closed(reader), 10) for reader, _ in opened[3:]]
        assert ends == [b"", b""]
        for _, writer in opened:
            writer.close()
        await wait_until(lambda: not server._http._state.connections)
        assert (await ask(server.http_address, "health", method="GET")).status == 200


# ---- web pages ------------------------------------------------------------------------------------------------------


async def call(server: Any, **headers: str) -> Answer:
    return await ask(server.http_address, "CriticService/ListCritics", b"{}", **headers)


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:50052", "127.0.0.1.evil.example", "10.0.0.1", ""]
)
async def test_a_name_that_was_made_to_point_here_is_refused(server: Any, name: str) -> None:
    answer = await call(server, Host=name)
    assert (answer.status, answer.json["code"]) == (403, "PERMISSION_DENIED")
    assert (await ask(server.http_address, "health", method="GET", Host=name)).status == 403


@pytest.mark.parametrize("name", ["localhost", "localhost:80", "127.0.0.1:50052", "[::1]:50052", "LOCALHOST"])
async def test_names_of_this_machine_are_answered(server: Any, name: str) -> None:
    assert (await call(server, Host=name)).status == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "file://",
        "http://127.0.0.1:1",
        "https://localhost",
        "http://localhost.evil",
    ],
)
async def test_a_foreign_page_is_refused_and_told_nothing(server: Any, origin: str) -> None:
    answer = await call(server, Origin=origin)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = await ask(server.http_address, PATH, method="OPTIONS", Origin=origin)
    assert asked.status == 403


async def test_the_servers_own_pages_and_programs_are_not_foreign(server: Any) -> None:
    own = f"http://{server.http_address}"
    assert (await call(server, Origin=own)).status == 200
    assert "access-control-allow-origin" not in (await call(server, Origin=own)).headers


async def test_a_page_that_was_named_may_ask_and_read(serving: Serving) -> None:
    origin = "https://studio.example.org"
    async with serving(http="127.0.0.1:0", http_origins=(origin,)) as (server, _):
        asked = await ask(
            server.http_address,
            PATH,
            method="OPTIONS",
            Origin=origin,
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="authorization,content-type",
        )
        assert asked.status == 204
        assert asked.headers["access-control-allow-origin"] == origin
        assert {"authorization", "content-type", "grpc-timeout"} <= set(
            asked.headers["access-control-allow-headers"].split(", ")
        )
        assert "access-control-allow-credentials" not in asked.headers
        answer = await call(server, Origin=origin)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
        assert answer.headers["vary"] == "origin"
        assert (await call(server, Origin=origin + ".evil.example")).status == 403


async def test_a_further_name_is_answered_once_it_was_given(serving: Serving) -> None:
    async with serving(http="127.0.0.1:0", http_hosts=("critic.lan",)) as (server, _):
        assert (await call(server, Host="critic.lan:50052")).status == 200
        assert (await call(server, Host="critic.lan.evil")).status == 403


def test_beyond_loopback_a_rebound_name_is_still_not_the_servers_own() -> None:
    public = Origins(ServerSettings(critics=("dummy",)), "0.0.0.0")
    public.check({"host": "critic.example"}, "http")
    public.check({"host": "192.0.2.7:80", "origin": "http://192.0.2.7:80"}, "http")
    with pytest.raises(PermissionDenied):
        public.check({"host": "evil.example", "origin": "http://evil.example"}, "http")


# ---- any JSON at all ------------------------------------------------------------------------------------------------

relaxed = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = [
    "edit",
    "candidate",
    "options",
    "source",
    "encoded",
    "data",
    "prompt",
    "seed",
    "progress",
    "fraction",
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["AAAA", "NaN", "-1", "IMAGE_FORMAT_PNG"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)
DESCRIPTORS = [
    message
    for name, message in sorted(pb.DESCRIPTOR.message_types_by_name.items())
    if name.endswith("Request")
]


@relaxed
@given(value=values, descriptor=st.sampled_from(DESCRIPTORS))
def test_any_json_is_a_message_that_comes_back_or_is_refused(value: Any, descriptor: Any) -> None:
    data = json.dumps(value).encode()
    try:
        message = wire.read_message(data, descriptor)
    except InvalidInput as error:
        assert error.reason == pb.ERROR_REASON_MESSAGE_UNDECODABLE
        assert error.message.startswith("the request is no JSON of the message: ")
    else:
        told = wire.write_json(wire.write_message(message))
        assert wire.read_message(told, descriptor) == message


@relaxed
@given(data=st.binary(max_size=300), descriptor=st.sampled_from(DESCRIPTORS))
def test_any_bytes_are_a_message_or_are_refused(data: bytes, descriptor: Any) -> None:
    try:
        wire.read_message(data, descriptor)
    except InvalidInput as error:
        assert error.reason == pb.ERROR_REASON_MESSAGE_UNDECODABLE


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request of odd parts, now and then with some bytes replaced."""
    verb = draw(st.sampled_from(["POST", "GET", "OPTIONS", "HEAD", "PUT", "X"]))
    path = draw(
        st.sampled_from(["/v1/CriticService/ListCritics", "/v1/health", "/v1/A/B", "/", "*", "//x/../y?z"])
    )
    names = [
        "Host",
        "Origin",
        "Content-Type",
        "Content-Encoding",
        "Grpc-Timeout",
        "Expect",
        "Authorization",
        "Upgrade",
    ]
    odd = st.sampled_from(["127.0.0.1", "application/json", "5S", "null", "100-continue", "gzip", ""])
    headers = draw(
        st.dictionaries(st.sampled_from(names), odd | st.text("aZ09:/.;=- ", max_size=12), max_size=6)
    )
    headers = {"Host": "127.0.0.1", "Content-Type": "application/json", **headers, "Connection": "close"}
    body = draw(st.sampled_from(["", "{}", "{", "[]", "null", '{"a": 1}']))
    size = draw(
        st.sampled_from(
            [f"Content-Length: {len(body)}", "Content-Length: 3", "Transfer-Encoding: chunked", ""]
        )
    )
    lines = [f"{verb} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), size]
    data = bytearray("\r\n".join([*filter(None, lines), "", body]).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 5]))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


async def test_any_http_gets_an_answer_or_a_closed_connection(server: Any) -> None:
    made: list[bytes] = []

    @settings(relaxed, derandomize=True)
    @given(data=requests())
    def collect(data: bytes) -> None:
        made.append(data)

    collect()
    together = asyncio.Semaphore(32)

    async def send(data: bytes) -> bytes:
        async with together:
            reader, writer = await connect(server.http_address)
            writer.write(data)
            answer = await asyncio.wait_for(_until_closed(reader), 30)
            writer.close()
            return answer

    answers = await asyncio.gather(*map(send, made))
    statuses = {int(answer.split()[1]) for answer in answers if answer}
    assert statuses <= {100, 200, 204, 400, 403, 404, 405, 408, 415, 431, 501}, statuses
    assert {200, 400, 403, 404, 405} <= statuses
