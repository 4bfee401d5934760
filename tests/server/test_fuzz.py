"""Whatever bytes and fields come, the answer is a critique or a typed error: never UNKNOWN, never a crash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
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
from tests.server.fuzz_targets import TARGETS
from tests.server.fuzzing import CORPUS, Broken, Fuzzer, is_flat, last_input
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

    noted: list[bytes] = []
    fuzzer = Fuzzer("picture", seed=0, note=noted.append)
    monkeypatch.setattr(fuzzer, "run", broken)
    with pytest.raises(Broken, match=r"picture broke on [0-9a-f]+") as told:
        fuzzer.step()
    assert noted == [told.value.data], "an input that ends the process is known too"


def test_the_fuzzer_goes_on_running_what_it_no_longer_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer, ran = Fuzzer("picture", seed=0), 0

    def count(_data: bytes) -> None:
        nonlocal ran
        ran += 1

    monkeypatch.setattr(fuzzer, "run", count)
    fuzzer.calm = 1_000_000
    for _ in range(80):
        fuzzer.step()
    assert ran == 80


def test_an_input_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.server.fuzzing._INPUT_CPU_S", -1.0)
    with pytest.raises(Broken):
        Fuzzer("request", seed=0)


def test_a_process_that_an_input_ended_leaves_it_behind() -> None:
    program = """
import os
from tests.server.fuzzing import _LastInput
last = _LastInput()
last.note(b"longer than the next")
last.note(b"deadly")
print(last.path, flush=True)
os.abort()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    left = Path(ended.stdout.strip())
    assert last_input(left.read_bytes()) == b"deadly"
    left.unlink()


def test_memory_that_grows_fails_a_run() -> None:
    assert is_flat(100_000, 104_000)
    assert not is_flat(100_000, 106_000)
