"""What is copied at once, and what is decoded on a thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.server.decoding import decode_candidate, is_light
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import encode_image, raw_image
from tests.server.speaking import Stream

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


def noting(hosts: Any) -> list[str]:
    """The names of what the server does on decoding threads from now on."""
    names: list[str] = []
    decode: Callable[..., Awaitable[Any]] = hosts.decode

    def noted(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        names.append(function.__name__)
        return decode(function, *args)

    hosts.decode = noted
    return names
