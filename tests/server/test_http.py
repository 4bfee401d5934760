"""The same services over plain HTTP and JSON: the answers, the errors and the rules are those of gRPC."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from editcritic.plugin.refine_service import RefineService
from editcritic.refine.dummy import DummyCandidate
from editcritic.refine.journal import Journal
from editcritic.server.admission import Party, party_of
from editcritic.server.app import CriticServer
from editcritic.server.callers import ANONYMOUS, Caller, Role, call_as
from editcritic.server.http_face.context import CallContext, Peer, parse_timeout
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    errors,
    refine_pb2,
    refine_pb2_grpc,
)
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_image
from tests.server.gated import GatedCritic
from tests.server.http_speaking import Answer, as_json, ask, connect, head
from tests.server.speaking import as_error, wait_until

MakeCandidate = Callable[..., pb.Candidate]
Serving = Callable[..., AbstractAsyncContextManager[Any]]


def read(answer: Answer, kind: type[Message]) -> Any:
    """The message that an answer is."""
    assert answer.status == 200, answer.data
    assert answer.headers["content-type"] == "application/json"
    return json_format.ParseDict(answer.json, kind())


def read_all(answer: Answer, kind: type[Message]) -> list[Any]:
    assert answer.status == 200, answer.data
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json_format.ParseDict(line["result"], kind()) for line in answer.lines]


def timeless(critique: pb.Critique) -> pb.Critique:
    critique.ClearField("timings")
    return critique


@pytest.fixture
async def face(serving: Serving) -> AsyncIterator[tuple[str, Any]]:
    """Address of the HTTP face of a dummy server, and a stub for its gRPC."""
    async with serving(http="127.0.0.1:0") as (server, stub):
        yield server.http_address, stub


@pytest.fixture
def gated(offer: Callable[[type], str]) -> type[GatedCritic]:
    GatedCritic.reset()
    offer(GatedCritic)
    return GatedCritic


async def test_a_critique_is_the_one_that_grpc_gives(
    face: tuple[str, Any], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    address, stub = face
    options = pb.CritiqueOptions(heat_map=True)
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 200), options=options)
    over_http = read(await ask(address, "CriticService/Critique", request), pb.CritiqueResponse)
    over_grpc = await stub.Critique(request)
    assert over_http.critique.heat_maps
    assert timeless(over_http.critique) == timeless(over_grpc.critique)
    assert over_http.critique.scores.overall.value == pytest.approx(200 / 2.55)


async def test_a_ranking_is_the_one_that_grpc_gives(
    face: tuple[str, Any], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    address, stub = face
    candidates = [make_candidate(name, level) for name, level in (("dark", 20), ("light", 220), ("mid", 90))]
    request = pb.RankRequest(edit=edit, candidates=candidates)
    over_http = read(await ask(address, "CriticService/Rank", request), pb.RankResponse)
    assert [entry.candidate_id for entry in over_http.ranking] == ["light", "mid", "dark"]
    over_grpc = await stub.Rank(request)
    for entry in (*over_http.ranking, *over_grpc.ranking):
        timeless(entry.critique)
    assert over_http == over_grpc


async def test_critics_and_every_limit_are_the_ones_that_grpc_names(face: tuple[str, Any]) -> None:
    address, stub = face
    answer = read(await ask(address, "CriticService/ListCritics", b"{}"), pb.ListCriticsResponse)
    assert answer.limits.max_message_byte_count == ServerSettings.max_message_bytes
    assert answer == await stub.ListCritics(pb.ListCriticsRequest())
    assert read(await ask(address, "CriticService/ListCritics", b""), pb.ListCriticsResponse) == answer


async def test_a_verdict_is_kept_once_by_whichever_way_it_comes(serving: Serving, tmp_path: Path) -> None:
    async with serving(http="127.0.0.1:0", verdicts_path=tmp_path / "verdicts.sqlite3") as (server, stub):
        request = pb.RecordVerdictRequest(
            verdict_id="v", edit_id="e", candidate_id="c", kind=pb.VERDICT_KIND_ACCEPTED
        )
        first = await ask(server.http_address, "CriticService/RecordVerdict", request)
        assert read(first, pb.RecordVerdictResponse).created
        assert not (await stub.RecordVerdict(request)).created


async def test_a_stream_takes_lines_and_answers_lines(
    face: tuple[str, Any], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = pb.CritiqueStreamRequest
    lines = [
        request(open=pb.OpenEdit(edit=edit)),
        *(request(candidate=make_candidate(f"c{level}", level)) for level in (50, 150)),
        request(candidate=make_candidate("c50", 60)),
        request(finish=pb.FinishEdit()),
    ]
    events = read_all(await ask(face[0], "CriticService/CritiqueStream", lines), pb.CritiqueStreamResponse)
    assert (events[0].WhichOneof("event"), events[-1].WhichOneof("event")) == ("opened", "closed")
    scores = {
        event.critique.candidate_id: event.critique.scores.overall.value
        for event in events
        if event.HasField("critique")
    }
    assert scores == pytest.approx({"c50": 50 / 2.55, "c150": 150 / 2.55})
    repeated = [event.candidate_error for event in events if event.HasField("candidate_error")]
    assert [each.candidate_id for each in repeated] == ["c50"]
    assert events[-1].closed.critique_count == 2


async def test_a_stream_answers_while_it_is_still_sent(
    face: tuple[str, Any], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    reader, writer = await connect(face[0])

    async def send(**action: Any) -> None:
        line = as_json(pb.CritiqueStreamRequest(**action)) + b"\n"
        writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        await writer.drain()

    async def next_event() -> Any:
        while not (line := await asyncio.wait_for(reader.readline(), 30)).startswith(b'{"result"'):
            assert line, "the server closed the connection"
        return json.loads(line)["result"]

    writer.write(head("CriticService/CritiqueStream", None))
    await send(open=pb.OpenEdit(edit=edit))
    assert "opened" in await next_event()
    await send(candidate=make_candidate("a", 255))
    assert (await next_event())["critique"]["scores"]["overall"]["value"] == pytest.approx(100)
    writer.close()


async def test_an_error_in_the_middle_is_the_last_line(face: tuple[str, Any], edit: pb.Edit) -> None:
    lines = [pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit))]
    answer = await ask(face[0], "CriticService/CritiqueStream", lines)
    assert answer.status == 200
    assert [next(iter(line)) for line in answer.lines] == ["result", "error"]
    error = answer.lines[-1]["error"]
    assert (error["code"], error["status"]) == ("FAILED_PRECONDITION", 9)
    assert "without finish" in error["message"]
    assert error["details"][0]["reason"] == "STREAM_PROTOCOL"


CASES: dict[str, tuple[str, Callable[[Any], Any], int, str]] = {
    "a field is missing": ("Critique", lambda r: r.ClearField("candidate"), 400, "FIELD_MISSING"),
    "no picture": (
        "Critique",
        lambda r: setattr(r.edit.source.encoded, "data", b"no picture"),
        400,
        "IMAGE_UNDECODABLE",
    ),
    "no such critic": ("Critique", lambda r: setattr(r.options, "critic", "nobody"), 404, "CRITIC_UNKNOWN"),
    "a prompt without end": (
        "Critique",
        lambda r: setattr(r.edit, "prompt", "x" * 9999),
        400,
        "PROMPT_TOO_LONG",
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_an_error_is_the_one_that_grpc_tells(
    face: tuple[str, Any], edit: pb.Edit, make_candidate: MakeCandidate, name: str
) -> None:
    method, change, status, reason = CASES[name]
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
    change(request)
    answer = await ask(face[0], f"CriticService/{method}", request)
    assert (answer.status, answer.reason) == (status, reason)
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await getattr(face[1], method)(request)
    over_grpc = as_error(told.value)
    assert answer.json["code"] == told.value.code().name
    assert answer.json["message"] == over_grpc.message
    details = json_format.MessageToDict(over_grpc.to_status())["details"]
    assert [each["@type"] for each in answer.json["details"]] == [each["@type"] for each in details]
    assert answer.json["details"] == details


STATUSES = {
    errors.InvalidInput: 400,
    errors.NotFound: 404,
    errors.ProtocolError: 400,
    errors.CandidateExists: 409,
    errors.Overloaded: 429,
    errors.QuotaExceeded: 429,
    errors.DeadlineExceeded: 504,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.ServerUnavailable: 503,
    errors.Incompatible: 501,
    errors.Cancelled: 499,
    errors.ServerFault: 500,
    errors.EditCriticError: 500,
}


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.__name__)
async def test_every_error_of_the_tree_has_its_status(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, kind: type[errors.EditCriticError]
) -> None:
    async def fail(*_: Any) -> None:
        raise kind("so it is", retry_after_s=2.3)

    async with serving(http="127.0.0.1:0") as (server, _):
        monkeypatch.setattr(server._service, "_hosts", None)
        monkeypatch.setattr(type(server._service), "_open", fail)
        request = pb.CritiqueRequest(edit=pb.Edit(prompt="x"), candidate=pb.Candidate(candidate_id="c"))
        answer = await ask(server.http_address, "CriticService/Critique", request)
    assert answer.status == STATUSES[kind]
    assert answer.json["status"] == kind.code
    assert answer.headers.get("retry-after") == ("3" if answer.status in (429, 503) else None)


async def test_a_fault_of_the_server_is_an_incident_and_tells_nothing(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(http="127.0.0.1:0") as (server, _):
        monkeypatch.setattr(server._service, "_hosts", None)
        answer = await ask(server.http_address, "CriticService/ListCritics", b"{}")
    assert (answer.status, answer.reason) == (500, "INTERNAL")
    assert "NoneType" not in answer.data.decode()


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("CriticService/Improve", "POST", 501, "UNIMPLEMENTED"),
        ("RefineService/Refine", "POST", 501, "UNIMPLEMENTED"),
        ("Health/Check", "POST", 501, "UNIMPLEMENTED"),
        ("CriticService", "POST", 404, "NOT_FOUND"),
        ("../etc/passwd/x", "POST", 404, "NOT_FOUND"),
        ("CriticService/Critique", "GET", 405, "INVALID_ARGUMENT"),
        ("CriticService/Critique", "DELETE", 405, "INVALID_ARGUMENT"),
        ("CriticService/Critique", "OPTIONS", 405, "INVALID_ARGUMENT"),
        ("health", "POST", 405, "INVALID_ARGUMENT"),
    ],
)
async def test_other_paths_and_verbs_are_refused_in_the_same_words(
    face: tuple[str, Any], path: str, method: str, status: int, code: str
) -> None:
    answer = await ask(face[0], path, b"{}", method)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"


async def test_health_is_answered_without_a_token_and_tells_of_the_end(serving: Serving) -> None:
    async with serving(http="127.0.0.1:0", token="a-long-random-token") as (server, _):
        answer = await ask(server.http_address, "health", method="GET")
        assert (answer.status, answer.json) == (200, {"status": "SERVING"})
        await server._health.enter_graceful_shutdown()
        answer = await ask(server.http_address, "health", method="GET")
        assert (answer.status, answer.json) == (503, {"status": "NOT_SERVING"})


async def test_tokens_roles_and_quotas_hold_as_over_grpc(
    serving: Serving, tmp_path: Path, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("studio a-long-random-token score per_minute=3\n")
    tokens.chmod(0o600)
    async with serving(http="127.0.0.1:0", tokens_path=tokens, admin=True) as (server, stub):
        address, path = server.http_address, "CriticService/ListCritics"
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a-long-random-token"}):
            answer = await ask(address, path, b"{}", **wrong)
            assert (answer.status, answer.reason) == (401, "UNAUTHENTICATED")
            assert answer.headers["www-authenticate"] == "Bearer"
        mine = "Bearer a-long-random-token"
        answer = await ask(address, "AdminService/ListLoadedCritics", b"{}", Authorization=mine)
        assert (answer.status, answer.reason) == (403, "PERMISSION_DENIED")
        assert (await ask(address, path, b"{}", Authorization=mine)).status == 200
        # One account for both ways: two of the three are used over HTTP, or were refused before the count.
        await stub.ListCritics(pb.ListCriticsRequest(), metadata=(("authorization", mine),))
        assert (await ask(address, path, b"{}", Authorization=mine)).status == 200
        answer = await ask(address, path, b"{}", Authorization=mine)
        assert (answer.status, answer.reason) == (429, "QUOTA_EXCEEDED")
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ListCritics(pb.ListCriticsRequest(), metadata=(("authorization", mine),))


async def test_a_request_without_a_token_is_refused_before_its_body_is_read(serving: Serving) -> None:
    async with serving(http="127.0.0.1:0", token="a-long-random-token") as (server, _):
        reader, writer = await connect(server.http_address)
        writer.write(head("CriticService/Critique", 40_000_000))
        assert b" 401 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()


async def test_admins_load_critics_over_http_too(serving: Serving) -> None:
    token = "a-long-random-token"
    async with serving(http="127.0.0.1:0", token=token, admin=True) as (server, _):
        stub: Any = None
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = admin_pb2_grpc.AdminServiceStub(channel)
            loaded = await ask(
                server.http_address,
                "AdminService/LoadCritic",
                admin_pb2.LoadCriticRequest(spec="evidence"),
                Authorization=f"Bearer {token}",
            )
            assert read(loaded, admin_pb2.LoadCriticResponse).critic.info.identity.name == "evidence"
            listed = await ask(
                server.http_address, "AdminService/ListLoadedCritics", b"{}", Authorization=f"Bearer {token}"
            )
            metadata = (("authorization", f"Bearer {token}"),)
            over_grpc = await stub.ListLoadedCritics(admin_pb2.ListLoadedCriticsRequest(), metadata=metadata)
            assert read(listed, admin_pb2.ListLoadedCriticsResponse) == over_grpc
            gone = await ask(
                server.http_address,
                "AdminService/UnloadCritic",
                admin_pb2.UnloadCriticRequest(name="evidence"),
                Authorization=f"Bearer {token}",
            )
            assert (gone.status, gone.json) == (200, {})


def party(host: str, port: int, caller: Caller = ANONYMOUS) -> Party:
    call_as(caller)
    return party_of(CallContext(Peer(host, port), (), None))  # type: ignore[arg-type]


async def test_shares_go_by_who_calls_and_not_by_how_many_connections_they_open() -> None:
    studio = Caller("studio", Role.SCORE)
    assert party("10.0.0.1", 1) == party("10.0.0.1", 2) != party("10.0.0.2", 1)
    assert party("127.0.0.1", 1, studio) == party("127.0.0.1", 2, studio)
    assert party("127.0.0.1", 1, studio) != party("127.0.0.1", 1, Caller("nightly", Role.SCORE))
    assert party("127.0.0.1", 1) != party("127.0.0.1", 2), "there is nothing else to tell them apart by"


async def test_one_caller_that_floods_leaves_room_for_another(
    serving: Serving, tmp_path: Path, gated: type[GatedCritic], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("flood a-long-random-token score\nother another-long-token score\n")
    tokens.chmod(0o600)
    options = {"critics": ("GatedCritic",), "max_queued": 8, "tokens_path": tokens, "workers": 1}
    request = as_json(pb.CritiqueRequest(edit=edit, candidate=make_candidate()))
    async with serving(http="127.0.0.1:0", **options) as (server, _):

        def critique(token: str) -> asyncio.Task[Answer]:
            asking = ask(
                server.http_address, "CriticService/Critique", request, Authorization=f"Bearer {token}"
            )
            return asyncio.create_task(asking)

        admitted = server._hosts.admission
        flood = [critique("a-long-random-token") for _ in range(8)]
        await wait_until(lambda: admitted.count == 6 and sum(each.done() for each in flood) == 2)
        late = critique("another-long-token")
        await wait_until(lambda: admitted.count == 7)
        gated.gate.set()
        answers = await asyncio.gather(*flood, late)
    assert sorted(answer.status for answer in answers) == [200] * 7 + [429] * 2
    assert answers[-1].status == 200
    refused = next(answer for answer in answers if answer.status == 429)
    assert (refused.reason, refused.headers["retry-after"]) == ("QUEUE_FULL", "1")


@pytest.mark.parametrize(
    ("text", "seconds"), [("30S", 30), ("2M", 120), ("1H", 3600), ("250m", 0.25), ("5u", 5e-6), ("", None)]
)
def test_a_deadline_is_written_as_grpc_writes_it(text: str, seconds: float | None) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


async def test_a_deadline_that_is_none_is_refused(face: tuple[str, Any]) -> None:
    for wrong in ("30", "S", "-1S", "1e9S", "123456789S", "1.5S", "soon"):
        answer = await ask(face[0], "CriticService/ListCritics", b"{}", Grpc_Timeout=wrong)
        assert (answer.status, answer.json["code"]) == (400, "INVALID_ARGUMENT"), wrong


@pytest.mark.parametrize("streams", [False, True])
async def test_past_the_deadline_the_work_stops(
    serving: Serving,
    gated: type[GatedCritic],
    edit: pb.Edit,
    make_candidate: MakeCandidate,
    caplog: pytest.LogCaptureFixture,
    streams: bool,
) -> None:
    caplog.set_level("INFO", "editcritic.server.calls")
    request = pb.CritiqueStreamRequest
    lines = [request(open=pb.OpenEdit(edit=edit)), request(candidate=make_candidate())]
    lines.append(request(finish=pb.FinishEdit()))
    async with serving(http="127.0.0.1:0", critics=("GatedCritic",)) as (server, _):
        if streams:
            answer = await ask(server.http_address, "CriticService/CritiqueStream", lines, Grpc_Timeout="1S")
            error = answer.lines[-1]["error"]
        else:
            single = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
            answer = await ask(server.http_address, "CriticService/Critique", single, Grpc_Timeout="1S")
            assert answer.status == 504
            error = answer.json
        assert (error["code"], error["status"]) == ("DEADLINE_EXCEEDED", 4)
        await wait_until(gated.was_cancelled.is_set)
        await wait_until(lambda: server._hosts.admission.count == 0 and bool(caplog.records))
        assert [each.status for each in caplog.records] == ["DEADLINE_EXCEEDED"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_leaves_takes_its_work_along(
    serving: Serving,
    gated: type[GatedCritic],
    edit: pb.Edit,
    make_candidate: MakeCandidate,
    caplog: pytest.LogCaptureFixture,
    streams: bool,
) -> None:
    caplog.set_level("INFO", "editcritic.server.calls")
    candidate = make_candidate()
    if streams:
        request = pb.CritiqueStreamRequest
        messages = [request(open=pb.OpenEdit(edit=edit)), request(candidate=candidate)]
        path, body = "CriticService/CritiqueStream", b"\n".join(map(as_json, messages)) + b"\n"
    else:
        path, body = (
            "CriticService/Critique",
            as_json(pb.CritiqueRequest(edit=edit, candidate=candidate)),
        )
    async with serving(http="127.0.0.1:0", critics=("GatedCritic",)) as (server, _):
        _, writer = await connect(server.http_address)
        # A stream that is not at its end yet.
        writer.write(head(path, len(body) + streams) + body)
        await wait_until(lambda: bool(gated.asked))
        writer.close()
        await wait_until(gated.was_cancelled.is_set)
        await wait_until(lambda: server._hosts.admission.count == 0 and server._service.open_streams == 0)
        await wait_until(lambda: server._hosts.admission.byte_count == 0 and bool(caplog.records))
        (ended,) = [each.status for each in caplog.records]  # type: ignore[attr-defined]
        # A stream's input ends first, as over gRPC.
        assert ended == "CANCELLED" or (streams and ended == "FAILED_PRECONDITION")


@asynccontextmanager
async def refining(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[CriticServer, Any]]:
    """A server with the dummy engine, and a stub of its RefineService."""
    journal = Journal(tmp_path / "journal.sqlite3")

    def add(hosts: Any, server: Any) -> str:
        refine_pb2_grpc.add_RefineServiceServicer_to_server(RefineService(hosts, ["dummy"], journal), server)
        return refine_pb2.DESCRIPTOR.services_by_name["RefineService"].full_name

    chosen = ServerSettings(port=0, critics=("dummy",), workers=2, http="127.0.0.1:0", **settings)
    async with CriticServer(chosen, [add]) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield server, refine_pb2_grpc.RefineServiceStub(channel)


def refine_request(edit: pb.Edit, name: str, count: int) -> refine_pb2.RefineRequest:
    edit.edit_id = name
    return refine_pb2.RefineRequest(
        edit=edit,
        sampling=refine_pb2.SamplingOptions(candidate_count=count, seed=4),
        race=refine_pb2.RaceOptions(method=refine_pb2.RACE_METHOD_PLAIN),
        budget=refine_pb2.RefineBudget(repair_round_count=0),
    )


async def test_the_loop_and_its_journal_answer_as_over_grpc(tmp_path: Path, edit: pb.Edit) -> None:
    async with refining(tmp_path) as (server, stub):
        answer = await ask(server.http_address, "RefineService/Refine", refine_request(edit, "web", 2))
        events = read_all(answer, refine_pb2.RefineResponse)
        again = [event async for event in stub.Refine(refine_request(edit, "native", 2))]
        assert [event.WhichOneof("event") for event in events] == [
            event.WhichOneof("event") for event in again
        ]
        assert np.array_equal(decode_image(events[-1].result.image), decode_image(again[-1].result.image))
        for method, request, kind in (
            ("ListEngines", refine_pb2.ListEnginesRequest(), refine_pb2.ListEnginesResponse),
            ("GetEdit", refine_pb2.GetEditRequest(edit_id="web"), refine_pb2.GetEditResponse),
            ("ListEdits", refine_pb2.ListEditsRequest(page_size=1), refine_pb2.ListEditsResponse),
        ):
            over_http = read(await ask(server.http_address, f"RefineService/{method}", request), kind)
            assert over_http == await getattr(stub, method)(request)
            assert over_http.ByteSize()
        refused = await ask(server.http_address, "RefineService/Refine", refine_pb2.RefineRequest())
        assert (refused.status, refused.json["code"]) == (400, "INVALID_ARGUMENT")


async def test_closing_the_connection_stops_the_engine_within_a_step(
    tmp_path: Path, edit: pb.Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_go_on, steps = threading.Event(), threading.Event(), []
    advance = DummyCandidate.advance

    def slowly(self: DummyCandidate, to_fraction: float) -> None:
        steps.append(to_fraction)
        began.set()
        may_go_on.wait(20)
        advance(self, to_fraction)

    monkeypatch.setattr(DummyCandidate, "advance", slowly)
    async with refining(tmp_path) as (server, _):
        request = as_json(refine_request(edit, "left", 40))
        _, writer = await connect(server.http_address)
        writer.write(head("RefineService/Refine", len(request)) + request)
        await wait_until(began.is_set)
        calls = server._http._face._calls  # type: ignore[union-attr]
        assert len(calls) == 1
        writer.close()
        await wait_until(lambda: not calls)
        done = len(steps)
        may_go_on.set()
        service = next(
            handler._method_handlers["/editcritic.v1.RefineService/Refine"].unary_stream.__self__
            for handler in server._registry._handlers
            if handler.service_name().endswith("RefineService")
        )
        await wait_until(lambda: not service._running)
        assert len(steps) <= done + 1


async def test_calls_are_logged_and_counted_with_the_way_that_they_came(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(http="127.0.0.1:0", metrics_port=0) as (server, stub):
        with caplog.at_level("INFO", "editcritic.server.calls"):
            await ask(server.http_address, "CriticService/ListCritics", b"{}")
            await ask(server.http_address, "CriticService/Critique", b"{}")
            await ask(server.http_address, "CriticService/Critique", b"{")
            await stub.ListCritics(pb.ListCriticsRequest())
            await wait_until(lambda: len(caplog.records) == 4)
        told = [(each.method, each.status, each.transport) for each in caplog.records]  # type: ignore[attr-defined]
        host, _, port = server.operations.metrics_address.rpartition(":")
        scraped = await asyncio.to_thread(urlopen, f"http://{host}:{port}/metrics")
        text = scraped.read().decode()
    over_http = (
        'editcritic_calls_total{method="CriticService/Critique",status="INVALID_ARGUMENT",transport="http"}'
    )
    assert f"{over_http} 2.0" in text
    assert told == [
        ("CriticService/ListCritics", "OK", "http"),
        ("CriticService/Critique", "INVALID_ARGUMENT", "http"),
        ("CriticService/Critique", "INVALID_ARGUMENT", "http"),
        ("CriticService/ListCritics", "OK", "grpc"),
    ]


async def test_a_server_that_stops_lets_open_calls_finish_and_refuses_new_ones(
    serving: Serving, gated: type[GatedCritic], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = as_json(pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 255)))
    async with serving(http="127.0.0.1:0", critics=("GatedCritic",)) as (server, _):
        reader, writer = await connect(server.http_address)
        open_call = asyncio.create_task(ask(server.http_address, "CriticService/Critique", request))
        await wait_until(lambda: bool(gated.asked))
        stopping = asyncio.create_task(server.stop(grace_s=20))
        await wait_until(lambda: server._http._face._is_stopping)  # type: ignore[union-attr]
        writer.write(head("CriticService/ListCritics", 2) + b"{}")
        assert b" 503 " in await asyncio.wait_for(reader.readline(), 10)
        with pytest.raises(ConnectionError):
            await ask(server.http_address, "health", method="GET")
        gated.gate.set()
        assert (await open_call).status == 200
        await stopping
        writer.close()


async def test_past_the_grace_open_calls_are_cut_off_with_a_word(
    serving: Serving, gated: type[GatedCritic], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = as_json(pb.CritiqueRequest(edit=edit, candidate=make_candidate()))
    async with serving(http="127.0.0.1:0", critics=("GatedCritic",)) as (server, _):
        open_call = asyncio.create_task(ask(server.http_address, "CriticService/Critique", request))
        await wait_until(lambda: bool(gated.asked))
        await server.stop(grace_s=0.05)
        answer = await open_call
    assert (answer.status, answer.reason) == (503, "SHUTTING_DOWN")
    assert answer.headers["retry-after"] == "1"


async def test_one_connection_carries_one_request_after_the_other(face: tuple[str, Any]) -> None:
    reader, writer = await connect(face[0])
    for _ in range(3):
        writer.write(head("CriticService/ListCritics", 2) + b"{}")
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 10)
        head_lines = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(head_lines.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert b'"dummy"' in await reader.readexactly(length)
    writer.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"http": "0.0.0.0:0"}, "refusing to listen on 0.0.0.0 in clear text"),
        ({"http": "[::]:50052"}, "refusing to listen on ::"),
        ({"http": "50052"}, "must be HOST:PORT"),
        ({"http": "localhost:http"}, "must be HOST:PORT"),
        ({"http": "localhost:99999"}, "must be HOST:PORT"),
        ({"http_origins": ("*",)}, "is no origin"),
        ({"http_origins": ("https://studio.example.org/page",)}, "is no origin"),
        ({"http_origins": ("null",)}, "is no origin"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told.replace("*", r"\*")):
        ServerSettings(critics=("dummy",), **settings)


async def test_an_address_that_is_taken_is_told(serving: Serving) -> None:
    async with serving(http="127.0.0.1:0") as (server, _):
        with pytest.raises(SettingsError, match="cannot listen for HTTP"):
            async with serving(http=server.http_address):
                pass


async def test_an_answer_that_is_cut_off_does_not_look_whole(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deadline passes while a client that reads slowly has half of it."""
    async with serving(http="127.0.0.1:0") as (server, _):
        long = "x" * (32 << 20)
        infos = [pb.CriticInfo(description=long)]
        monkeypatch.setattr(type(server._hosts), "infos", lambda _: infos)
        reader, writer = await connect(server.http_address)
        writer.write(head("CriticService/ListCritics", 2, Grpc_Timeout="2S") + b"{}")
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 30)
        calls = server._http._face._calls
        await wait_until(lambda: not calls)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(len(long)), 30)
        writer.close()
