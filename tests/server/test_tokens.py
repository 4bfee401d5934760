"""Tokens, roles and quotas: the file that holds them, and what callers are told who go beyond theirs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from editcritic.server.callers import Account, Quota, Role, current_caller, role_of
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.settings import SettingsError
from editcritic.server.tokens import Authenticator, parse_tokens
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import errors
from tests.server.speaking import Stream, refusal, wait_until

MakeCandidate = Callable[..., pb.Candidate]
SECRET = "correct-horse-battery"
OTHER = "another-long-token-here"
HASHED = "sha256:" + hashlib.sha256(OTHER.encode()).hexdigest()


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tokens(tmp_path: Path) -> Callable[..., Path]:
    """``tokens("name secret role", ...)`` writes the file, for its owner alone; each time with another mtime."""
    path = tmp_path / "tokens"
    count = 0

    def write(*lines: str, mode: int = 0o600) -> Path:
        nonlocal count
        count += 1
        path.write_text("\n".join(lines) + "\n")
        path.chmod(mode)
        os.utime(path, (count, count))
        return path

    return write


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def test_a_line_is_a_name_a_token_or_its_hash_a_role_and_a_quota() -> None:
    plain, hashed = parse_tokens(
        f"# who may what\n\nstudio {SECRET} score per_minute=600 items=16 # the studio\nnightly {HASHED} refine"
    )
    assert (plain.name, plain.role, plain.quota) == ("studio", Role.SCORE, Quota(600, 16))
    assert plain.digest == hashlib.sha256(SECRET.encode()).digest()
    assert (hashed.name, hashed.role, hashed.quota) == ("nightly", Role.REFINE, Quota())
    assert hashed.digest == hashlib.sha256(OTHER.encode()).digest()
    assert SECRET not in repr(plain)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no token"),
        ("# nothing\n", "no token"),
        (f"a {SECRET}", "line 1: needs"),
        (f"\n\na {SECRET} boss", "line 3: the role must be score, refine, admin"),
        ("a short score", "at least 16"),
        ("a sha256:abc score", "64 hexadecimal"),
        (f"a/b {SECRET} score", "a name is"),
        (f"anonymous {SECRET} score", "a name is"),
        (f"a {SECRET} score items=0", "a quota is"),
        (f"a {SECRET} score items=1 items=2", "a quota is"),
        (f"a {SECRET} score speed=9", "a quota is"),
        (f"a {SECRET} score\na {OTHER} score", "line 2: .* given before"),
        (f"a {OTHER} score\nb {HASHED} score", "line 2: .* given before"),
    ],
)
def test_a_bad_line_is_named_without_its_token(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        parse_tokens(text)
    assert SECRET not in str(refused.value)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602, 0o666])
def test_a_file_that_others_may_read_or_change_is_refused(tokens: Any, mode: int) -> None:
    with pytest.raises(SettingsError, match="chmod 600"):
        Authenticator(None, tokens(f"a {SECRET} score", mode=mode))


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_that_its_group_may_read_is_warned_of(tokens: Any, caplog: pytest.LogCaptureFixture) -> None:
    Authenticator(None, tokens(f"a {SECRET} score", mode=0o640))
    assert "chmod 600" in caplog.text


def test_a_token_is_found_by_its_hash_and_nothing_else_is(tokens: Any) -> None:
    known = Authenticator("the-single-one", tokens(f"a {SECRET} score", f"b {HASHED} admin"))
    names = {
        given: known.caller(given)
        for given in (f"Bearer {SECRET}", f"Bearer {OTHER}", "Bearer the-single-one")
    }
    assert [caller and caller.name for caller in names.values()] == ["a", "b", "token"]
    for wrong in (
        "",
        "Bearer",
        "Bearer ",
        SECRET,
        f"bearer {SECRET}",
        f"Bearer {SECRET} ",
        f"Bearer {HASHED}",
    ):
        assert known.caller(wrong) is None, wrong
    assert known.caller("Bearer ü".encode()) is None


def test_every_entry_is_compared_so_that_time_tells_nothing(
    tokens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []
    known = Authenticator(None, tokens(*(f"t{number} {SECRET}{number} score" for number in range(5))))

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("editcritic.server.tokens.hmac.compare_digest", compare)
    assert known.caller(f"Bearer {SECRET}0") is not None
    assert len(compared) == 5


def test_a_changed_file_is_read_again_and_a_bad_one_changes_nothing(
    tokens: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    known = Authenticator(None, tokens(f"a {SECRET} score"), clock)
    tokens(f"a {OTHER} score")
    assert known.caller(f"Bearer {SECRET}"), "within the second nobody looks"
    clock.now += 1
    assert known.caller(f"Bearer {SECRET}") is None
    assert known.caller(f"Bearer {OTHER}")
    tokens(f"a {OTHER} emperor")
    clock.now += 1
    assert known.caller(f"Bearer {OTHER}"), "the last good file holds"
    assert "stay as they were" in caplog.text
    assert "line 1: the role must be" in caplog.text
    caplog.clear()
    clock.now += 1
    known.caller("")
    assert caplog.text == "", "one bad file is told once"
    tokens(f"a {OTHER} score").unlink()
    clock.now += 1
    assert known.caller(f"Bearer {OTHER}"), "nor does a missing one lock everybody out"
    tokens(f"a {SECRET} score")
    clock.now += 1
    assert known.caller(f"Bearer {SECRET}")


def test_a_bucket_gives_a_minutes_worth_at_once_and_then_one_by_one() -> None:
    clock = Clock()
    account = Account("a", Quota(per_minute=30), clock)
    for _ in range(30):
        account.take_request()
    with pytest.raises(errors.QuotaExceeded) as refused:
        account.take_request()
    assert refused.value.retry_after_s == pytest.approx(2.0), "30 a minute is one every two seconds"
    clock.now += 2.0
    account.take_request()
    clock.now += 3600
    for _ in range(30):
        account.take_request()
    with pytest.raises(errors.QuotaExceeded):
        account.take_request()


def test_a_new_quota_holds_for_open_accounts(tokens: Any) -> None:
    clock = Clock()
    known = Authenticator(None, tokens(f"a {SECRET} score items=1"), clock)
    caller = known.caller(f"Bearer {SECRET}")
    assert caller is not None
    with caller.item():
        with pytest.raises(errors.QuotaExceeded), caller.item():
            pass
        tokens(f"a {SECRET} score items=2")
        known.reload()
        with caller.item():
            pass


def test_every_method_of_ours_has_a_role_and_an_unlisted_one_is_for_admins() -> None:
    assert role_of("/editcritic.v1.CriticService/Critique") == Role.SCORE
    assert role_of("/editcritic.v1.RefineService/GetEdit") == Role.REFINE
    assert role_of("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") == Role.SCORE
    assert role_of("/editcritic.v1.AdminService/Drain") == Role.ADMIN
    assert role_of("/editcritic.v1.CriticServiceX/Critique") == Role.ADMIN


def quota_subject(error: grpc.aio.AioRpcError) -> str:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())["grpc-status-details-bin"])
    failure = error_details_pb2.QuotaFailure()
    assert any(detail.Unpack(failure) for detail in status.details)
    return str(failure.violations[0].subject)


async def test_a_known_token_is_let_in_and_none_is_not(serving: Any, tokens: Any) -> None:
    async with serving(tokens_path=tokens(f"scorer {SECRET} score", f"refiner {HASHED} refine")) as (_, stub):
        for token in (SECRET, OTHER):
            assert (await stub.ListCritics(pb.ListCriticsRequest(), metadata=bearer(token))).critics
        assert isinstance(await refusal(stub.ListCritics(pb.ListCriticsRequest())), errors.Unauthenticated)


async def test_a_scorer_may_not_run_the_loop_nor_read_its_journal(serving: Any, tokens: Any) -> None:
    from editcritic.server.app import CriticServer
    from editcritic.server.settings import ServerSettings
    from editcritic.v1 import refine_pb2, refine_pb2_grpc

    class Engines(refine_pb2_grpc.RefineServiceServicer):
        async def ListEngines(self, request: Any, context: Any) -> refine_pb2.ListEnginesResponse:
            return refine_pb2.ListEnginesResponse(engines=[refine_pb2.EngineInfo(name=current_caller().name)])

    def add(_hosts: Any, server: Any) -> str:
        refine_pb2_grpc.add_RefineServiceServicer_to_server(Engines(), server)
        return "editcritic.v1.RefineService"

    path = tokens(f"scorer {SECRET} score", f"refiner {OTHER} refine")
    settings = ServerSettings(port=0, critics=("dummy",), tokens_path=path)
    async with CriticServer(settings, [add]) as server, grpc.aio.insecure_channel(server.address) as channel:
        stub = refine_pb2_grpc.RefineServiceStub(channel)
        request = refine_pb2.ListEnginesRequest()
        answer = await stub.ListEngines(request, metadata=bearer(OTHER))
        assert [engine.name for engine in answer.engines] == ["refiner"], "handlers know who calls"
        error = await refusal(stub.ListEngines(request, metadata=bearer(SECRET)))
        assert isinstance(error, errors.PermissionDenied)
        assert error.reason == pb.ERROR_REASON_PERMISSION_DENIED
        assert error.metadata == {"caller": "scorer", "needed_role": "refine"}
        stream = stub.Refine(refine_pb2.RefineRequest(), metadata=bearer(SECRET))
        assert isinstance(await refusal(stream.read()), errors.PermissionDenied)


async def test_too_many_requests_a_minute_are_refused_with_who_and_when(serving: Any, tokens: Any) -> None:
    path = tokens(f"busy {SECRET} score per_minute=2", f"calm {OTHER} score per_minute=2")
    async with serving(tokens_path=path) as (_, stub):
        for _ in range(2):
            await stub.ListCritics(pb.ListCriticsRequest(), metadata=bearer(SECRET))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListCritics(pb.ListCriticsRequest(), metadata=bearer(SECRET))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert quota_subject(caught.value) == "busy"
        error = await refusal(stub.ListCritics(pb.ListCriticsRequest(), metadata=bearer(SECRET)))
        assert isinstance(error, errors.QuotaExceeded)
        assert error.retry_after_s
        assert 0 < error.retry_after_s <= 30
        assert (await stub.ListCritics(pb.ListCriticsRequest(), metadata=bearer(OTHER))).critics


class Holding(DummyCritic):
    """Judges once it is let go, or cancelled."""

    let_go: bool = False

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        while not (self.let_go or is_cancelled()):
            time.sleep(0.005)
        return super().critique(tasks, lambda: False)


async def test_items_at_a_time_are_counted_over_calls_and_given_back(
    serving: Any, offer: Any, tokens: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    critic: Any = type("Held", (Holding,), {"__doc__": Holding.__doc__})
    path = tokens(f"one {SECRET} score items=1", f"two {OTHER} score items=1")
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
    async with serving(critics=(offer(critic),), tokens_path=path, workers=2) as (server, stub):
        first = asyncio.ensure_future(stub.Critique(request, metadata=bearer(SECRET)))
        await wait_until(lambda: server._hosts.admission.count == 1)
        error = await refusal(stub.Critique(request, metadata=bearer(SECRET)))
        assert isinstance(error, errors.QuotaExceeded)
        critic.let_go = True
        assert (await stub.Critique(request, metadata=bearer(OTHER))).critique.scores
        await first
        assert (await stub.Critique(request, metadata=bearer(SECRET))).critique.scores


async def test_a_stream_gets_the_credit_that_its_quota_has_room_for_and_gets_it_back(
    serving: Any, tokens: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(tokens_path=tokens(f"a {SECRET} score items=2")) as (_, stub):
        stream = Stream(stub.CritiqueStream(metadata=bearer(SECRET)))
        opened = await stream.open(edit)
        assert opened.credit_count == 2
        credit = opened.credit_count
        for number in range(8):
            while credit < 1:
                event = await stream.next()
                credit += event.credit.count
            await stream.send(candidate=make_candidate(f"c{number}"))
            credit -= 1
        closed = (await stream.finish())[-1].closed
        assert (closed.critique_count, closed.error_count) == (8, 0)


async def test_a_stream_beyond_its_minute_fails_candidates_and_not_the_stream(
    serving: Any, tokens: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(tokens_path=tokens(f"a {SECRET} score per_minute=3")) as (_, stub):
        stream = Stream(stub.CritiqueStream(metadata=bearer(SECRET)))
        await stream.open(edit)
        for number in range(5):
            await stream.send(candidate=make_candidate(f"c{number}"))
        closed = (await stream.finish())[-1].closed
        assert (closed.critique_count, closed.error_count) == (3, 2)


async def test_a_ranking_stays_within_its_quota(
    serving: Any, tokens: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(tokens_path=tokens(f"a {SECRET} score items=1")) as (_, stub):
        candidates = [make_candidate(f"c{level}", level) for level in range(50, 250, 25)]
        request = pb.RankRequest(edit=edit, candidates=candidates)
        ranking = (await stub.Rank(request, metadata=bearer(SECRET))).ranking
        assert [entry.critique.scores.overall.HasField("value") for entry in ranking] == [True] * 8


async def test_metadata_over_the_limit_is_refused_and_the_server_goes_on(serving: Any) -> None:
    async with serving() as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListCritics(pb.ListCriticsRequest(), metadata=(("x-noise", "n" * 9000),))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
async def test_sighup_reads_the_tokens_again(tokens: Any, caplog: pytest.LogCaptureFixture) -> None:
    from editcritic.server.app import CriticServer, serve
    from editcritic.server.settings import ServerSettings

    caplog.set_level(logging.INFO)
    settings = ServerSettings(port=0, critics=("dummy",), tokens_path=tokens(f"a {SECRET} score"))
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(serve(settings, on_ready=ready.set_result, stop=stop))
    server: CriticServer = await ready
    tokens(f"a {SECRET} score", f"b {OTHER} score")
    os.kill(os.getpid(), signal.SIGHUP)
    await wait_until(lambda: "2 tokens were read" in caplog.text)
    assert server._authenticator.caller(f"Bearer {OTHER}")
    stop.set()
    await running
