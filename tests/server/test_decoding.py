"""What is copied at once, and what is decoded on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.server.canvas import Canvas
from editcritic.server.decoding import decode_candidate, decoded_byte_count, is_light
from editcritic.server.digest import LateDigest
from editcritic.server.kept import content_sha256
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import ImageLimits, encode_image, raw_image
from tests.server.speaking import Stream, wait_until

SOURCE = np.full((64, 96, 3), 90, np.uint8)
CROP = np.full((16, 24, 3), 200, np.uint8)
PLACE = pb.Box(x=8, y=4, width=24, height=16)


def test_bare_pixels_of_a_crop_or_of_the_whole_are_light() -> None:
    crop = pb.Candidate(image=raw_image(CROP), region=PLACE)
    assert is_light(crop, SOURCE)
    assert is_light(pb.Candidate(image=raw_image(SOURCE)), SOURCE)
    assert is_light(pb.Candidate(image=raw_image(CROP[..., 0]), region=PLACE), SOURCE)
    whole = decode_candidate(crop, None, SOURCE, ServerSettings(critics=("dummy",))).image
    assert np.array_equal(whole[4:20, 8:32], CROP)
    assert (np.count_nonzero(whole != SOURCE), SOURCE[4, 8, 0]) == (CROP.size, 90), (
        "the source is nobody's to change"
    )


HUGE = pb.Box(width=8192, height=4096)


@pytest.mark.parametrize(
    "candidate",
    [
        pb.Candidate(image=encode_image(CROP), region=PLACE),
        # Nothing says that these two agree about a size.
        pb.Candidate(image=encode_image(CROP), region=pb.Box()),
        pb.Candidate(region=pb.Box()),
        pb.Candidate(image=raw_image(CROP), region=pb.Box(width=48, height=32)),
        pb.Candidate(image=raw_image(CROP)),
        pb.Candidate(image=pb.Image(raw=pb.RawImage(width=8192, height=4096)), region=HUGE),
    ],
    ids=[
        "encoded",
        "encoded into nothing",
        "no picture",
        "to be resized",
        "not of the source's size",
        "beyond the source",
    ],
)
def test_what_needs_a_decoder_a_resize_or_more_room_is_not(candidate: pb.Candidate) -> None:
    assert not is_light(candidate, SOURCE)


def test_on_a_large_source_even_a_small_crop_is_not() -> None:
    large = np.zeros((1024, 1024, 3), np.uint8)
    assert not is_light(pb.Candidate(image=raw_image(CROP), region=PLACE), large)


async def test_light_ones_need_no_thread_to_be_decoded_and_get_the_same_score(
    serving: Any, edit: pb.Edit, source: NDArray[np.uint8], mask: NDArray[np.float32]
) -> None:
    picture = source.copy()
    picture[mask > 0.5] = 51
    async with serving() as (server, stub):
        stream, on_threads = Stream(stub.CritiqueStream()), noting(server._hosts)
        await stream.open(edit)
        scores = {}
        for name, image in (("bare", raw_image(picture)), ("file", encode_image(picture))):
            on_threads.clear()
            await stream.send(candidate=pb.Candidate(candidate_id=name, image=image))
            scores[name] = (await stream.next()).critique.scores.overall.value
            assert ("decode_within" in on_threads) == (name == "file")
        assert scores["bare"] == scores["file"] == pytest.approx(20.0)


def test_a_copy_of_the_source_is_handed_out_once() -> None:
    canvas = Canvas(SOURCE)
    canvas.refill()
    first = canvas.take()
    first[:] = 7
    canvas.refill()
    second, third = canvas.take(), canvas.take()
    assert np.array_equal(second, SOURCE)
    assert np.array_equal(third, SOURCE)
    assert not np.shares_memory(second, third)
    assert not np.shares_memory(second, SOURCE)


def test_the_copy_in_store_takes_room_with_its_edit_and_a_large_source_has_none() -> None:
    def room(width: int, height: int) -> int:
        source = pb.Image(raw=pb.RawImage(width=width, height=height))
        return decoded_byte_count(pb.Edit(source=source), ImageLimits())

    assert room(96, 64) == 96 * 64 * (3 + 3 + 4 + 4)
    assert room(1024, 1024) == 1024 * 1024 * (3 + 4 + 4)


async def test_what_one_candidate_pasted_is_not_seen_in_the_next(
    serving: Any, edit: pb.Edit, source: NDArray[np.uint8], mask: NDArray[np.float32]
) -> None:
    bright = raw_image(np.full((24, 24, 3), 255, np.uint8))
    elsewhere = raw_image(np.zeros((8, 8, 3), np.uint8))
    async with serving() as (server, stub):
        stream = Stream(stub.CritiqueStream())
        opened = await stream.open(edit)
        canvas = server._hosts.edits.find("", opened.edit_sha256).canvas
        inside = pb.Candidate(candidate_id="in", image=bright, region=pb.Box(x=20, y=20, width=24, height=24))
        await stream.send(candidate=inside)
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(100.0)
        canvas.refill()
        beside = pb.Candidate(candidate_id="by", image=elsewhere, region=pb.Box(width=8, height=8))
        await stream.send(candidate=beside)
        untouched = float(source[mask > 0.5].mean()) / 2.55
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(untouched, abs=0.01)


async def test_a_candidate_is_hashed_a_moment_later_and_the_next_copy_made_with_it() -> None:
    candidate, done = pb.Candidate(candidate_id="c"), list[str]()
    digest = LateDigest(candidate, asyncio.to_thread, lambda: done.append("copied"))
    await wait_until(lambda: done == ["copied"])
    assert await digest.value() == content_sha256(candidate)


async def test_who_wants_the_digest_at_once_waits_for_nothing_else() -> None:
    candidate, done = pb.Candidate(candidate_id="c"), list[str]()
    digest = LateDigest(candidate, asyncio.to_thread, lambda: done.append("copied"))
    assert await digest.value() == content_sha256(candidate)
    await asyncio.sleep(0.01)
    assert done == []


async def test_a_digest_that_nobody_wants_any_more_is_not_made() -> None:
    done: list[str] = []
    digest = LateDigest(pb.Candidate(), asyncio.to_thread, lambda: done.append("copied"))
    digest.close()
    await asyncio.sleep(0.01)
    assert done == []


def noting(hosts: Any) -> list[str]:
    """The names of what the server does on decoding threads from now on."""
    names: list[str] = []
    decode: Callable[..., Awaitable[Any]] = hosts.decode

    def noted(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        names.append(function.__name__)
        return decode(function, *args)

    hosts.decode = noted
    return names
