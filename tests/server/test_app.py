"""The server as a process: health, reflection, token, TLS rule, drain, and an end with its parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from editcritic.server.app import CriticServer
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from tests.server.speaking import refusal

SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", ["", "editcritic.v1.CriticService"])
async def test_health_answers_for_the_server_and_the_service(serving: Any, service: str) -> None:
    async with serving() as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert (await check(health_pb2.HealthCheckRequest(service=service))).status == SERVING


async def test_reflection_names_the_services(serving: Any) -> None:
    async with serving() as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
        names = {service.name for service in answer.list_services_response.service}
        assert {"editcritic.v1.CriticService", "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize(
    ("metadata", "is_let_in"),
    [
        ((), False),
        ((("authorization", "Bearer wrong"),), False),
        ((("authorization", "Bearer s3cret"),), True),
    ],
)
async def test_a_token_is_asked_of_every_call_but_health(
    serving: Any, metadata: tuple[tuple[str, str], ...], is_let_in: bool
) -> None:
    async with serving(token="s3cret") as (server, stub):
        call = stub.ListCritics(pb.ListCriticsRequest(), metadata=metadata)
        if is_let_in:
            assert (await call).critics
        else:
            assert (await refusal(call)).reason == pb.ERROR_REASON_UNAUTHENTICATED
            assert (await refusal(stub.CritiqueStream(metadata=metadata).read())).code == 16
        async with grpc.aio.insecure_channel(server.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            assert (await check(health_pb2.HealthCheckRequest())).status == SERVING


UNSAFE: dict[str, tuple[dict[str, Any], str]] = {
    "public in clear text": ({"host": "0.0.0.0"}, "clear text"),
    "public name in clear text": ({"host": "example.org"}, "clear text"),
    "every address of IPv6": ({"host": "::"}, "clear text"),
    "an address of IPv6": ({"host": "2001:db8::1"}, "clear text"),
    "link-local IPv6": ({"host": "fe80::1"}, "clear text"),
    "loopback behind IPv6's mapping of a public one": ({"host": "::ffff:192.0.2.1"}, "clear text"),
    "a short form of every address": ({"host": "0"}, "clear text"),
    "no host": ({"host": ""}, "clear text"),
    "a loopback with a port of its own": ({"host": "127.0.0.1:80"}, "clear text"),
    "a unix socket": ({"host": "unix:/tmp/editcritic"}, "Unix sockets"),
    "a unix socket in public": (
        {"host": "unix:/tmp/editcritic", "allow_insecure_public": True},
        "Unix sockets",
    ),
    "half a TLS pair": ({"tls_cert_path": "cert.pem"}, "both a certificate and a key"),
    "unknown critic": ({"critics": ("mars",)}, "evidence"),
    "no critic": ({"critics": ()}, "evidence"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_settings_are_refused_with_the_way_out(case: str) -> None:
    settings, says = UNSAFE[case]
    with pytest.raises(SettingsError, match=says):
        ServerSettings(**settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert ServerSettings(host=host).host == host


async def test_a_port_in_use_is_told(serving: Any) -> None:
    async with serving() as (server, _):
        port = int(server.address.rsplit(":", 1)[1])
        second = CriticServer(ServerSettings(port=port, critics=("dummy",)))
        with pytest.raises(SettingsError, match="Is another server there"):
            await second.start()


@pytest.fixture
def embedded() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """``embedded("--flag")`` starts a server process with the dummy critic; it never outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "editcritic.server", "--port=0", "--critics=dummy", "--no-verdicts"]
        pipe = subprocess.PIPE
        process = subprocess.Popen([*command, *flags], stdin=pipe, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        with process:  # closes the pipes
            pass


def announced(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def test_an_embedded_server_announces_itself_and_ends_with_its_parent(
    embedded: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = embedded("--embedded")
    line = announced(process)
    assert line["pid"] == process.pid
    with grpc.insecure_channel(line["address"]) as channel:
        stub = critic_pb2_grpc.CriticServiceStub(channel)
        assert stub.ListCritics(pb.ListCriticsRequest(), timeout=10).critics
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=20) == 0


def test_sigterm_lets_an_open_stream_finish(
    embedded: Callable[..., subprocess.Popen[bytes]],
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
) -> None:
    process = embedded("--embedded", "--grace-s=20")
    with grpc.insecure_channel(announced(process)["address"]) as channel:
        requests = iter_queue()
        events = critic_pb2_grpc.CriticServiceStub(channel).CritiqueStream(requests)
        requests.put(pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit)))
        assert next(events).HasField("opened")
        process.send_signal(signal.SIGTERM)
        assert next(events).going_away.grace_ms == 20_000
        requests.put(pb.CritiqueStreamRequest(candidate=make_candidate("last")))
        requests.put(pb.CritiqueStreamRequest(finish=pb.FinishEdit()))
        assert [event.WhichOneof("event") for event in events] == ["critique", "closed"]
    assert process.wait(timeout=20) == 0


def iter_queue() -> Any:
    """A queue that is an iterator, as blocking gRPC streams take their requests."""
    import queue

    class Requests(queue.SimpleQueue[pb.CritiqueStreamRequest]):
        def __iter__(self) -> Requests:
            return self

        def __next__(self) -> pb.CritiqueStreamRequest:
            return self.get(timeout=20)

    return Requests()


def test_a_second_signal_ends_the_grace(
    embedded: Callable[..., subprocess.Popen[bytes]], edit: pb.Edit
) -> None:
    process = embedded("--embedded", "--grace-s=600")
    with grpc.insecure_channel(announced(process)["address"]) as channel:
        requests = iter_queue()
        events = critic_pb2_grpc.CriticServiceStub(channel).CritiqueStream(requests)
        requests.put(pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit)))
        next(events)
        process.send_signal(signal.SIGTERM)
        assert next(events).HasField("going_away")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        events.cancel()


def test_a_server_that_cannot_start_says_why_in_one_line(
    embedded: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = embedded("--host=0.0.0.0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"clear text" in errors
    assert b"Traceback" not in errors
