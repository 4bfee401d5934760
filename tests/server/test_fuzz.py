"""Whatever bytes and fields come, the answer is a critique or a typed error: never UNKNOWN, never a crash."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError
from editcritic.v1.images import decode_file, encode_image, encode_mask
from tests.server.fuzzing import CORPUS, TARGETS, Fuzzer
from tests.server.speaking import as_error

PNG = encode_image(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).encoded.data
VALID = pb.CritiqueRequest(
    edit=pb.Edit(
        source=pb.Image(encoded=pb.EncodedImage(data=PNG)), denoise_mask=encode_mask(np.ones((16, 16)))
    ),
    candidate=pb.Candidate(candidate_id="c", image=pb.Image(encoded=pb.EncodedImage(data=PNG))),
).SerializeToString()
# The deadline of an example is wall time, which the load of the machine decides.
relaxed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with a few bytes replaced, and perhaps cut short."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)))])


@relaxed
@given(data=st.one_of(st.binary(max_size=300), damaged(PNG)))
def test_any_bytes_are_a_picture_or_an_image_error(data: bytes) -> None:
    try:
        pixels = decode_file(data)
    except ImageError as error:
        assert error.reason != pb.ERROR_REASON_UNSPECIFIED
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3


async def test_any_request_gets_a_critique_or_a_typed_error(serving: Any) -> None:
    from editcritic.server.app import SERVICE_NAME

    requests: list[bytes] = []

    @relaxed
    @given(data=st.one_of(st.binary(max_size=300), damaged(VALID)))
    def collect(data: bytes) -> None:
        requests.append(data)

    collect()
    async with serving() as (server, stub), grpc.aio.insecure_channel(server.address) as channel:
        critique = channel.unary_unary(f"/{SERVICE_NAME}/Critique")
        for request in requests:
            try:
                await critique(request)
            except grpc.aio.AioRpcError as error:
                told = as_error(error)
                assert told.reason_name != "UNSPECIFIED", told
                assert error.code() != grpc.StatusCode.INTERNAL, told
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_what_the_fuzzer_kept_is_still_read_or_refused(file: Any) -> None:
    TARGETS[file.name.partition("-")[0]](file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_little_fuzzing_finds_nothing(name: str) -> None:
    fuzzer = Fuzzer(name, seed=2)
    for _ in range(100):
        fuzzer.step()
    assert len(fuzzer.reached) > 100, "the code that reads the input was watched"


def test_the_fuzzer_tells_what_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        raise KeyError(data)

    fuzzer = Fuzzer("picture", seed=0)
    monkeypatch.setattr(fuzzer, "run", broken)
    with pytest.raises(AssertionError, match=r"picture broke on [0-9a-f]+"):
        fuzzer.step()
