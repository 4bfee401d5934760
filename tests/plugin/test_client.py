"""Both clients do the same: judge, rank, stream, and survive a server that goes away."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.client import AsyncClient, Client, make_candidate, make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc, errors
from tests.plugin.fake_server import ClosingCritic, FakeCritic, answering, die, forgetful, serving_fake

Fill = Callable[[int], NDArray[np.uint8]]


class Blocking:
    """The asyncio client behind blocking names, so that one test speaks for both."""

    def __init__(self, run: Callable[[Any], Any], address: str, **settings: Any) -> None:
        self._run = run
        self._client = run(self._make(address, settings))

    @staticmethod
    async def _make(address: str, settings: dict[str, Any]) -> AsyncClient:
        return AsyncClient(address, **settings)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: self._run(getattr(self._client, name)(*args, **options))

    def open_edit(self, *args: Any, **options: Any) -> Any:
        return BlockingStream(self._run, self._run(self._client.open_edit(*args, **options)))


class BlockingStream(Blocking):
    """The asyncio stream behind blocking names."""

    def __init__(self, run: Callable[[Any], Any], stream: Any) -> None:
        self._run = run
        self._client = stream
        self.opened = stream.opened

    def __enter__(self) -> BlockingStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())

    def finish(self) -> Any:
        return self._run(self._all())

    async def _all(self) -> list[Any]:
        return [event async for event in self._client.finish()]


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Any:
    """``connect(address)``: a client of either kind with the methods of the blocking one."""
    import asyncio

    opened: list[Any] = []
    if request.param == "blocking":

        def make(address: str, **settings: Any) -> Any:
            opened.append(Client(address, **settings))
            return opened[-1]

        yield make
    else:
        loop = asyncio.new_event_loop()

        def make(address: str, **settings: Any) -> Any:
            opened.append(Blocking(loop.run_until_complete, address, **settings))
            return opened[-1]

        yield make
    for client in opened:
        client.close()
    if request.param == "asyncio":
        loop.close()


def judged(events: Any) -> list[str]:
    return [event.critique.candidate_id for event in events if event.HasField("critique")]


def test_a_critique(connect: Any, address: str, edit: pb.Edit, filled: Fill) -> None:
    critique = connect(address).critique(edit, filled(255), critic="dummy")
    assert critique.scores.overall.value == pytest.approx(100.0)


def test_a_heat_map_when_asked_for(connect: Any, address: str, edit: pb.Edit, filled: Fill) -> None:
    client = connect(address)
    assert not client.critique(edit, filled(9), critic="dummy").heat_maps
    assert client.critique(edit, filled(9), critic="dummy", heat_map=True).heat_maps


def test_a_ranking(connect: Any, address: str, edit: pb.Edit, filled: Fill) -> None:
    pictures = {"dark": filled(10), "bright": filled(240)}
    ranking = connect(address).rank(edit, pictures, critic="dummy")
    assert [entry.candidate_id for entry in ranking] == ["bright", "dark"]


def test_the_critics_and_limits(connect: Any, address: str) -> None:
    answer = connect(address).list_critics()
    assert [critic.identity.name for critic in answer.critics] == ["dummy", "evidence"]


def test_a_verdict_is_kept_once(connect: Any, address: str, request: pytest.FixtureRequest) -> None:
    client, name = connect(address), f"v-{abs(hash(request.node.name))}"
    kind = pb.VERDICT_KIND_ACCEPTED
    assert client.record_verdict("e", "c", kind, verdict_id=name, rating=80.0)
    assert not client.record_verdict("e", "c", kind, verdict_id=name)


def test_a_stream(connect: Any, address: str, edit: pb.Edit, filled: Fill) -> None:
    with connect(address).open_edit(edit, critic="dummy") as stream:
        assert stream.opened.critic.name == "dummy"
        stream.preview("a", filled(100), 0.5, step=10, step_count=20, engine="tabletop")
        stream.candidate("b", make_candidate(filled(200), seed=7))
        events = list(stream.finish())
    assert sorted(judged(events)) == ["a", "b"]
    (told,) = [event.critique.progress for event in events if event.critique.candidate_id == "a"]
    assert (told.fraction, told.engine) == (0.5, "tabletop"), (
        "a critique tells what it was told of the preview"
    )


def test_a_stream_sends_no_more_than_its_credit_and_still_everything(connect: Any, edit: pb.Edit) -> None:
    fake = FakeCritic(answering(credit=2))
    picture = np.zeros((64, 64, 3), np.uint8)
    with serving_fake(fake) as address, connect(address).open_edit(edit) as stream:
        for number in range(12):
            stream.candidate(f"c{number}", picture)
        assert judged(stream.finish()) == [f"c{number}" for number in range(12)]


def test_a_lost_connection_resends_only_what_has_no_answer(connect: Any, edit: pb.Edit) -> None:
    fake = FakeCritic(answering(2, then=die), answering())
    picture = np.zeros((64, 64, 3), np.uint8)
    with serving_fake(fake) as address, connect(address).open_edit(edit) as stream:
        for name in "abcd":
            stream.candidate(name, picture)
        assert judged(stream.finish()) == ["a", "b", "c", "d"]
    assert fake.sent[1] == ["open", "c", "d", "finish"]


def test_a_lost_connection_goes_on_without_sending_the_edit_again(connect: Any, edit: pb.Edit) -> None:
    fake = FakeCritic(answering(1, then=die, sha256=b"known"), answering(sha256=b"known"))
    picture = np.zeros((64, 64, 3), np.uint8)
    with serving_fake(fake) as address, connect(address).open_edit(edit) as stream:
        for name in "ab":
            stream.candidate(name, picture)
        assert judged(stream.finish()) == ["a", "b"]
    assert [each[0] for each in fake.sent] == ["open", "open by name"]
    assert fake.sent[1] == ["open by name", "b", "finish"]


def test_a_server_that_does_not_keep_the_edit_gets_the_whole_of_it(connect: Any, edit: pb.Edit) -> None:
    fake = FakeCritic(answering(1, then=die, sha256=b"known"), forgetful)
    picture = np.zeros((64, 64, 3), np.uint8)
    with serving_fake(fake) as address, connect(address).open_edit(edit, max_reconnects=1) as stream:
        for name in "ab":
            stream.candidate(name, picture)
        assert judged(stream.finish()) == ["a", "b"]
    assert fake.sent[1:] == [["open by name"], ["open", "b", "finish"]]


def test_a_second_stream_over_the_same_edit_names_it(connect: Any, edit: pb.Edit) -> None:
    fake, other = FakeCritic(answering(sha256=b"known")), pb.Edit()
    other.CopyFrom(edit)
    other.prompt = "something else"
    with serving_fake(fake) as address:
        client = connect(address)
        for each in (edit, edit, other):
            with client.open_edit(each) as stream:
                list(stream.finish())
    assert fake.sent == [["open", "finish"], ["open by name", "finish"], ["open", "finish"]]


def test_a_server_that_stays_away_is_told_and_nothing_that_came_is_lost(connect: Any, edit: pb.Edit) -> None:
    fake = FakeCritic(answering(1, then=die), lambda requests, context: die(context) or iter(()))
    picture = np.zeros((64, 64, 3), np.uint8)
    with serving_fake(fake) as address:
        stream = connect(address).open_edit(edit, max_reconnects=1)
        stream.candidate("a", picture)
        stream.candidate("b", picture)
        with pytest.raises(errors.ServerUnavailable):
            list(stream.finish())
        stream.close()
    assert len(fake.sent) >= 2


def test_a_server_that_goes_down_each_time_is_not_tried_for_ever(connect: Any, edit: pb.Edit) -> None:
    fake = FakeCritic(answering(0, then=die))
    with (
        serving_fake(fake) as address,
        connect(address).open_edit(edit, max_reconnects=2) as stream,
        pytest.raises(errors.ServerUnavailable),
    ):
        list(stream.finish())
    assert len(fake.sent) == 3


def test_a_refused_edit_is_told_when_it_is_opened(connect: Any, address: str, edit: pb.Edit) -> None:
    edit.denoise_mask.CopyFrom(edit.source)
    edit.source.Clear()
    with pytest.raises(errors.InvalidInput) as refused:
        connect(address).open_edit(edit)
    assert refused.value.field == "edit.source"


def test_errors_are_of_the_tree(connect: Any, address: str, edit: pb.Edit, filled: Fill) -> None:
    client = connect(address)
    with pytest.raises(errors.NotFound, match="mars"):
        client.critique(edit, filled(9), critic="mars")
    with pytest.raises(errors.ImageError) as refused:
        client.critique(edit, b"no picture", critic="dummy")
    assert refused.value.reason == pb.ERROR_REASON_IMAGE_UNDECODABLE


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_nobody_listening_is_told_with_the_way_out(connect: Any, edit: pb.Edit, filled: Fill) -> None:
    client = connect(f"127.0.0.1:{free_port()}", timeout_s=10)
    with pytest.raises(errors.ServerUnavailable, match="editcritic serve"):
        client.critique(edit, filled(9))
    with pytest.raises(errors.ServerUnavailable):
        client.open_edit(edit, max_reconnects=0)


@pytest.mark.parametrize("is_back", [True, False])
def test_a_call_that_meets_a_closing_connection_is_tried_again(
    connect: Any, edit: pb.Edit, filled: Fill, is_back: bool
) -> None:
    closing = ClosingCritic(count=1 if is_back else 100)
    with serving_fake(closing) as address:
        client = connect(address)
        if is_back:
            assert client.critique(edit, filled(9)).scores.overall.value == 61.0
            assert closing.call_count == 2
        else:
            with pytest.raises(errors.ServerUnavailable, match="it is stopping"):
                client.critique(edit, filled(9))
            assert closing.call_count == 4


def test_a_server_of_another_kind_is_told(connect: Any, edit: pb.Edit) -> None:
    with serving_fake(critic_pb2_grpc.CriticServiceServicer()) as address:
        client = connect(address)
        with pytest.raises(errors.Incompatible, match="another version"):
            client.list_critics()
        with pytest.raises(errors.Incompatible):
            client.open_edit(edit)


def test_an_older_server_names_its_revision(connect: Any, edit: pb.Edit) -> None:
    def refuse(requests: Any, context: Any) -> Any:
        error = errors.ProtocolError("revision 0", reason=pb.ERROR_REASON_UNSUPPORTED_PROTOCOL)
        context.set_trailing_metadata((("grpc-status-details-bin", error.to_status().SerializeToString()),))
        context.abort(__import__("grpc").StatusCode.FAILED_PRECONDITION, "revision 0")
        yield

    with serving_fake(FakeCritic(refuse)) as address, pytest.raises(errors.ProtocolError) as refused:
        connect(address).open_edit(edit)
    assert refused.value.reason == pb.ERROR_REASON_UNSUPPORTED_PROTOCOL


def test_a_deadline_is_kept(connect: Any, edit: pb.Edit) -> None:
    def dawdle(requests: Any, context: Any) -> Any:
        for _ in requests:
            pass
        yield pb.CritiqueStreamResponse()

    with serving_fake(FakeCritic(dawdle)) as address, pytest.raises(errors.DeadlineExceeded):
        connect(address).open_edit(edit, timeout_s=0.2)


def test_a_server_that_leaves_without_closing_is_told(connect: Any, edit: pb.Edit) -> None:
    def leave(requests: Any, context: Any) -> Any:
        next(requests)
        yield pb.CritiqueStreamResponse(opened=pb.EditOpened(credit_count=1))

    with (
        serving_fake(FakeCritic(leave)) as address,
        connect(address).open_edit(edit, max_reconnects=0) as stream,
        pytest.raises(errors.ServerFault, match="before it had answered"),
    ):
        list(stream.finish())


def test_events_of_a_newer_server_are_passed_over(connect: Any, edit: pb.Edit) -> None:
    def newer(requests: Any, context: Any) -> Any:
        for event in answering()(requests, context):
            yield pb.CritiqueStreamResponse.FromString(b"\xfa\x3e\x03new")  # field 1007, unknown today
            yield event

    with serving_fake(FakeCritic(newer)) as address, connect(address).open_edit(edit) as stream:
        stream.candidate("a", np.zeros((64, 64, 3), np.uint8))
        assert judged(stream.finish()) == ["a"]


def test_a_cancelled_candidate_is_not_sent_again_after_a_lost_connection(edit: pb.Edit) -> None:
    fake = FakeCritic(answering(0, credit=2), answering())
    picture = np.zeros((64, 64, 3), np.uint8)
    with serving_fake(fake) as address, Client(address).open_edit(edit) as stream:
        for name in "abc":
            stream.candidate(name, picture)
        stream.cancel("a")
        stream._call.cancel()
        assert judged(stream.finish()) == ["b", "c"]


def test_a_killed_server_process_is_found_again_at_its_address(edit: pb.Edit, filled: Fill) -> None:
    port = free_port()
    flags = [f"--port={port}", "--no-verdicts"]
    first = EmbeddedServer(["dummy"], flags)
    first.start()
    with Client(first.address).open_edit(edit, max_reconnects=50) as stream:
        stream.candidate("a", filled(10))
        while not list(stream.events(timeout_s=0.1)):
            pass
        assert first._process is not None
        first._process.kill()
        first._process.wait()
        with EmbeddedServer(["dummy"], flags):
            stream.candidate("b", filled(20))
            assert judged(stream.finish()) == ["b"]
    first.stop()


PICTURES: dict[str, Callable[[NDArray[np.uint8], Path], Any]] = {
    "path": lambda pixels, folder: folder / "photo.png",
    "string": lambda pixels, folder: str(folder / "photo.png"),
    "bytes": lambda pixels, folder: (folder / "photo.png").read_bytes(),
    "pillow": lambda pixels, folder: Image.fromarray(pixels),
    "array": lambda pixels, folder: pixels,
    "floats": lambda pixels, folder: pixels / 255.0,
    "batch of one": lambda pixels, folder: pixels[None],
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_arrives_alike(
    kind: str, address: str, files: Path, source: NDArray[np.uint8], mask: NDArray[np.float32]
) -> None:
    edit = make_edit(files / "photo.png", mask, prompt="x")
    with Client(address) as client:
        expected = client.critique(edit, source, critic="dummy").scores
        got = client.critique(edit, PICTURES[kind](source, files), critic="dummy").scores
    assert got == expected


@pytest.mark.parametrize("convert", [lambda m: m, lambda m: m > 0.5, lambda m: (m * 255).astype(np.uint8)])
def test_every_kind_of_mask_arrives_alike(
    convert: Callable[[Any], Any],
    address: str,
    source: NDArray[np.uint8],
    mask: NDArray[np.float32],
    filled: Fill,
) -> None:
    with Client(address) as client:
        critique = client.critique(make_edit(source, convert(mask)), filled(255), critic="dummy")
    assert critique.scores.overall.value == pytest.approx(100.0)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 7)), np.zeros(5), np.zeros((9, 9, 3), np.int64), np.full((9, 9, 3), np.nan)]
)
def test_an_array_that_is_no_picture_is_told(array: NDArray[Any]) -> None:
    with pytest.raises(errors.ImageError):
        make_candidate(array)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ImageError, match=r"nowhere\.png"):
        make_candidate(tmp_path / "nowhere.png")


def test_an_embedded_server_that_cannot_start_tells_its_last_words() -> None:
    with pytest.raises(errors.ServerUnavailable, match="clear text"):
        EmbeddedServer(["dummy"], ["--host=0.0.0.0"]).start()
