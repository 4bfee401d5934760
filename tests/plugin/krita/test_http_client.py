"""The docker's client: what it sends, what it reads, and how it says what went wrong."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from google.protobuf import json_format

from editcritic.plugin.krita.http_client import HttpClient, ServerError, Unreachable, parse_address
from editcritic.plugin.krita.messages import EditPictures, critique_body, refine_body
from editcritic.plugin.krita.settings import Settings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from tests.plugin.krita.fake_http_server import FakeServer, broken, error

REFINE = "/v1/RefineService/Refine"
EDIT = EditPictures(b"\x89PNG source", b"\x89PNG mask", 'a "red" ball {"data": "%mask%"}', "krita-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:50052", ("127.0.0.1", 50052)),
        ("http://studio:80/", ("studio", 80)),
        ("[::1]:7", ("::1", 7)),
    ],
)
def test_an_address_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "studio", "studio:", ":80", "studio:99999", "studio:x"])
def test_what_is_no_address_is_told_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected host:port, for example 127\.0\.0\.1:50052"):
        parse_address(text)


def test_the_body_of_an_edit_is_a_request_of_the_contract() -> None:
    settings = Settings(
        candidate_count=3, seed=5, time_limit_s=60, engine="tabletop", target_score=70, repair_rounds=0
    )
    request = json_format.Parse(b"".join(refine_body(EDIT, settings)), refine_pb2.RefineRequest())
    assert request.edit.source.encoded.data == EDIT.source
    assert request.edit.denoise_mask.encoded.data == EDIT.mask
    assert request.edit.prompt == EDIT.prompt
    assert (request.sampling.candidate_count, request.sampling.seed) == (3, 5)
    assert (request.sampling.engine, request.budget.time_ms) == ("tabletop", 60_000)
    assert (request.budget.target_score, request.budget.repair_round_count) == (70, 0)
    assert request.budget.HasField("repair_round_count")


def test_what_is_not_set_is_left_to_the_server() -> None:
    request = json_format.Parse(
        b"".join(refine_body(EDIT, Settings(time_limit_s=0))), refine_pb2.RefineRequest()
    )
    assert not request.sampling.HasField("seed")
    assert request.sampling.engine == ""
    assert request.budget.time_ms == 0


def test_the_body_of_a_critique_is_a_request_of_the_contract() -> None:
    large = bytes(range(256)) * 2000  # more than one part of base64
    request = json_format.Parse(
        b"".join(critique_body(EDIT, "a", large, b"blend", heat_map=True)), pb.CritiqueRequest()
    )
    assert request.candidate.image.encoded.data == large
    assert request.edit.blend_mask.encoded.data == b"blend"
    assert request.candidate.candidate_id == "a"
    assert request.options.heat_map


def test_a_stream_is_read_line_by_line_and_the_token_is_sent() -> None:
    lines = [{"result": {"sequence": str(number), "pad": "x" * 200_000}} for number in range(3)]
    with FakeServer({REFINE: lines}).running() as server:
        client = HttpClient(server.address, token="secret")
        events = list(client.stream("RefineService", "Refine", refine_body(EDIT, Settings())))
    assert [event["sequence"] for event in events] == ["0", "1", "2"]
    ((_, body, headers),) = server.requests
    assert body["edit"]["editId"] == "krita-1"
    assert headers["Authorization"] == "Bearer secret"


def test_an_error_in_mid_stream_has_its_code_and_message() -> None:
    lines = [{"result": {"sequence": "1"}}, error("RESOURCE_EXHAUSTED", "out of memory")]
    with FakeServer({REFINE: lines}).running() as server:
        events = HttpClient(server.address).stream("RefineService", "Refine", {})
        assert next(events)["sequence"] == "1"
        with pytest.raises(ServerError, match="out of memory") as caught:
            next(events)
    assert caught.value.code == "RESOURCE_EXHAUSTED"


def test_a_refusal_has_its_message_and_when_to_come_back() -> None:
    busy = FakeServer({REFINE: (429, error("RESOURCE_EXHAUSTED", "4 edits are running"))})
    with busy.running() as server, pytest.raises(ServerError, match="4 edits are running") as caught:
        list(HttpClient(server.address).stream("RefineService", "Refine", {}))
    assert caught.value.retry_after_s == 7


def test_a_server_that_dies_in_the_middle_is_told_from_one_that_ends() -> None:
    with FakeServer({REFINE: [{"result": {"sequence": "1"}}, broken]}).running() as server:
        events = HttpClient(server.address).stream("RefineService", "Refine", {})
        next(events)
        with pytest.raises(Unreachable, match="broke off"):
            next(events)


def test_closing_from_another_thread_ends_a_call_that_waits() -> None:
    released = threading.Event()
    held = [{"result": {"sequence": "1"}}, lambda: released.wait(20), {"result": {"sequence": "2"}}]
    with FakeServer({REFINE: held}).running() as server:
        client = HttpClient(server.address)
        events = client.stream("RefineService", "Refine", {})
        next(events)
        threading.Timer(0.1, client.close).start()
        began = time.monotonic()
        with pytest.raises(Unreachable):
            next(events)
        released.set()
    assert time.monotonic() - began < 15, "it did not wait for the server"


def test_nobody_there_is_said_in_plain_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        with pytest.raises(Unreachable, match="nobody listens at this address"):
            HttpClient(f"127.0.0.1:{taken.getsockname()[1]}").is_serving()


def test_health() -> None:
    with FakeServer({}).running() as server:
        assert HttpClient(server.address).is_serving()
    with FakeServer({"health": (503, {"status": "NOT_SERVING"})}).running() as server:
        assert not HttpClient(server.address).is_serving()
    other = FakeServer({"health": ["a", "page"]})
    with other.running() as server, pytest.raises(ServerError, match="no editcritic server"):
        HttpClient(server.address).is_serving()
