"""Decoding in processes of their own: the same pixels, and no fault of the image library is the server's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from editcritic.server import decoder_pool
from editcritic.server.decoders import IN_PROCESS
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError, ServerFault, ServerUnavailable
from editcritic.v1.images import DEFAULT_IMAGE_LIMITS as LIMITS
from editcritic.v1.images import ImageLimits, encode_image, encode_mask, raw_image
from tests.protos.hostile import file_of, noise, with_chunks
from tests.protos.test_images import REFUSED
from tests.server import bad_decoder
from tests.server.speaking import Stream, refusal, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers are confined on POSIX only")
BAD = (sys.executable, str(Path(bad_decoder.__file__)))
BREAKING = ["ABORT", "SEGFAULT", "RAISE", "LIE"]


def picture_of(level: int) -> pb.Image:
    return encode_image(np.full((64, 64, 3), level, np.uint8))


def file_image(data: bytes) -> pb.Image:
    return pb.Image(encoded=pb.EncodedImage(data=data))


@pytest.fixture
def pool() -> Iterator[Callable[..., decoder_pool.DecoderPool]]:
    """``pool(2, command=BAD)`` opens a pool that never outlives the test."""
    opened: list[decoder_pool.DecoderPool] = []

    def open_one(workers: int = 1, limits: ImageLimits = LIMITS, **options: Any) -> decoder_pool.DecoderPool:
        opened.append(decoder_pool.DecoderPool(workers, limits, **options))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_a_worker_hands_over_the_very_pixels(pool: Any, mask: NDArray[np.float32]) -> None:
    decoder = pool()
    transparent = file_of(noise(37, 21).convert("RGBA"), "PNG")
    for message in (
        file_image(transparent),
        encode_image(np.asarray(noise(300, 200)), "webp"),
        picture_of(7),
    ):
        assert np.array_equal(decoder.picture(message, LIMITS), IN_PROCESS.picture(message, LIMITS))
    soft = encode_mask(mask * 0.7)
    assert np.array_equal(decoder.mask(soft, LIMITS), IN_PROCESS.mask(soft, LIMITS))
    grey = raw_image(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert np.array_equal(decoder.picture(grey, LIMITS), IN_PROCESS.picture(grey, LIMITS))
    assert np.array_equal(decoder.mask(grey, LIMITS), IN_PROCESS.mask(grey, LIMITS))


def test_a_refusal_is_the_same_from_a_worker(pool: Any) -> None:
    decoder = pool()
    for case, (data, reason, says) in REFUSED.items():
        with pytest.raises(ImageError, match=says) as refused:
            decoder.picture(file_image(data), LIMITS)
        assert refused.value.reason == reason, case
    (worker,) = decoder._live
    assert worker.is_alive, "refusing a picture breaks no worker"


@pytest.mark.parametrize("fault", BREAKING)
def test_a_worker_that_breaks_costs_its_picture_and_is_replaced(
    pool: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = pool(command=BAD)
    assert decoder.picture(picture_of(100), LIMITS).max() == 100
    with pytest.raises(ImageError, match="broke the decoder") as told:
        decoder.picture(picture_of(getattr(bad_decoder, fault)), LIMITS)
    assert told.value.reason == pb.ERROR_REASON_IMAGE_UNDECODABLE
    assert told.value.metadata["incident"] in caplog.text
    assert decoder.picture(picture_of(100), LIMITS).max() == 100


def test_a_picture_of_another_kind_than_asked_for_is_not_believed(pool: Any) -> None:
    with pytest.raises(ServerFault):
        pool(command=BAD).picture(picture_of(bad_decoder.FLOOD), LIMITS)


def test_a_worker_that_hangs_is_ended_at_its_time(pool: Any) -> None:
    decoder = pool(command=BAD, timeout_s=1.0)
    decoder.start()
    with pytest.raises(ImageError, match="took over 1 s"):
        decoder.picture(picture_of(bad_decoder.SLEEP), LIMITS)
    assert decoder.picture(picture_of(100), LIMITS).max() == 100


def test_memory_ends_at_the_workers_limit(pool: Any) -> None:
    decoder = pool(1, ImageLimits(max_pixels=1_000_000), command=BAD)
    with pytest.raises(ImageError, match="more memory") as told:
        decoder.picture(picture_of(bad_decoder.ALLOCATE), LIMITS)
    assert told.value.reason == pb.ERROR_REASON_IMAGE_TOO_LARGE
    assert decoder.picture(picture_of(100), LIMITS).max() == 100


def test_the_largest_honest_picture_fits_into_the_workers_memory(pool: Any) -> None:
    limits = ImageLimits(max_pixels=4_000_000)
    decoder = pool(1, limits)
    see_through = file_of(Image.new("RGBA", (2000, 2000), (9, 9, 9, 128)), "PNG")
    assert decoder.picture(file_image(see_through), limits).shape == (2000, 2000, 3)
    deep = file_of(Image.fromarray(np.full((2000, 2000), 257 * 3, np.uint16)), "PNG")
    assert decoder.mask(file_image(deep), limits).max() == pytest.approx(3 / 255)


def test_an_idle_worker_that_was_killed_is_replaced(pool: Any) -> None:
    decoder = pool()
    decoder.start()
    (worker,) = decoder._live
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    assert decoder.picture(picture_of(100), LIMITS).max() == 100


def test_a_busy_worker_that_was_killed_costs_its_picture_and_is_replaced(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = pool(command=BAD)
    decoder.start()
    (worker,) = decoder._live
    is_busy, ask = threading.Event(), worker.ask

    def asked_from_now_on(*question: Any) -> Any:
        is_busy.set()
        return ask(*question)

    monkeypatch.setattr(worker, "ask", asked_from_now_on)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(decoder.picture, picture_of(bad_decoder.SLEEP), LIMITS)
        assert is_busy.wait(30)
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(ImageError) as told:
            asked.result(30)
    assert told.value.reason == pb.ERROR_REASON_IMAGE_UNDECODABLE
    assert decoder.picture(picture_of(100), LIMITS).max() == 100


def test_more_threads_than_workers_wait_their_turn(pool: Any) -> None:
    decoder = pool(2)
    with ThreadPoolExecutor(8) as threads:
        levels = list(range(0, 200, 5))
        answers = threads.map(lambda level: int(decoder.picture(picture_of(level), LIMITS).max()), levels)
        assert list(answers) == levels
    assert len(decoder._live) == 2


def test_closing_ends_busy_workers_and_lets_their_callers_go(pool: Any) -> None:
    decoder = pool(command=BAD)
    decoder.start()
    (worker,) = decoder._live
    told: list[BaseException] = []

    def ask() -> None:
        try:
            decoder.picture(picture_of(bad_decoder.SLEEP), LIMITS)
        except BaseException as error:
            told.append(error)

    callers = [threading.Thread(target=ask) for _ in range(2)]
    for caller in callers:
        caller.start()
    decoder.close()
    for caller in callers:
        caller.join(timeout=60)
    assert len(told) == 2
    assert not worker.is_alive
    with pytest.raises(ServerUnavailable):
        decoder.picture(picture_of(1), LIMITS)


def test_a_worker_that_was_starting_when_the_pool_closed_is_ended_too(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder, started = pool(), []

    class ClosedMeanwhile(decoder_pool._Worker):
        def __init__(self, command: tuple[str, ...]) -> None:
            super().__init__(command)
            started.append(self)
            decoder.close()

    monkeypatch.setattr(decoder_pool, "_Worker", ClosedMeanwhile)
    with pytest.raises(ServerUnavailable):
        decoder.picture(picture_of(1), LIMITS)
    (worker,) = started
    assert not worker.is_alive


def test_a_worker_that_does_not_start_is_told(pool: Any) -> None:
    with pytest.raises(ServerFault, match="no decoder could be started"):
        pool(command=(sys.executable, "-c", "raise SystemExit(3)")).start()


def test_a_worker_is_told_none_of_the_servers_secrets(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITCRITIC_TOKEN", "s3cret")
    decoder = pool()
    decoder.start()
    (worker,) = decoder._live
    environment = Path(f"/proc/{worker._process.pid}/environ")
    if not environment.exists():
        pytest.skip("needs /proc")
    assert b"s3cret" not in environment.read_bytes()


def test_pictures_from_strangers_are_decoded_apart_by_default() -> None:
    assert ServerSettings().isolated_decoders == 0
    assert ServerSettings(host="0.0.0.0", allow_insecure_public=True).isolated_decoders == 2
    assert ServerSettings(decoder_workers=3).isolated_decoders == 3
    assert ServerSettings(host="::", allow_insecure_public=True, decoder_workers=0).isolated_decoders == 0


async def test_nothing_is_lost_for_others_while_decoders_break(
    serving: Any,
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_pool, "WORKER_COMMAND", BAD)
    async with serving(decoder_workers=2) as (server, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)

        async def attack(fault: str) -> None:
            bad = pb.Candidate(candidate_id=fault, image=picture_of(getattr(bad_decoder, fault)))
            error = await refusal(stub.Critique(pb.CritiqueRequest(edit=edit, candidate=bad)))
            assert error.reason == pb.ERROR_REASON_IMAGE_UNDECODABLE
            assert error.field == "image"

        async def go_on(number: int) -> float:
            request = pb.CritiqueRequest(edit=edit, candidate=make_candidate(f"c{number}", 100))
            return float((await stub.Critique(request)).critique.scores.overall.value)

        honest = [go_on(number) for number in range(10)]
        attacks = [attack(fault) for fault in ("ABORT", "SEGFAULT", "RAISE") * 2]
        scores, *_ = await asyncio.gather(asyncio.gather(*honest), *attacks)
        assert scores == pytest.approx([100 / 2.55] * 10)
        await stream.send(candidate=pb.Candidate(candidate_id="bad", image=picture_of(bad_decoder.ABORT)))
        await stream.send(candidate=make_candidate("good"))
        closed = (await stream.finish())[-1].closed
        assert (closed.critique_count, closed.error_count) == (1, 1)
        await wait_until(lambda: server._hosts.admission.byte_count == 0)


async def test_a_hostile_file_never_reaches_a_worker(
    serving: Any, edit: pb.Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zlib

    from tests.protos.hostile import chunk

    async with serving(decoder_workers=1) as (server, stub):
        packed = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000)))
        monkeypatch.setattr(
            server._hosts.decoder, "_started", lambda _worker: pytest.fail("a worker was asked")
        )
        edit.source.CopyFrom(file_image(with_chunks(packed)))
        error = await refusal(stub.Critique(pb.CritiqueRequest(edit=edit, candidate=pb.Candidate())))
        assert (error.reason, error.field) == (pb.ERROR_REASON_IMAGE_TOO_LARGE, "edit.source")
