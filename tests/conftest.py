"""What most tests need: a small edit, a server with the dummy critic, and a stub to call it with."""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import grpc.aio
import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.server.app import CriticServer
from editcritic.server.critics import CRITICS
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc
from editcritic.v1.images import encode_image, encode_mask

# Helpers that assert, before any test imports them.
pytest.register_assert_rewrite("tests.server.conformance", "tests.server.speaking")

Stub: TypeAlias = "critic_pb2_grpc.CriticServiceAsyncStub"
SIZE = 64


@pytest.fixture(scope="session")
def source() -> NDArray[np.uint8]:
    """(64, 64, 3): a soft gradient with fine noise, as a photograph would have."""
    rng = np.random.default_rng(7)
    ramp = np.linspace(60, 190, SIZE)[None, :, None] + rng.normal(0, 4, (SIZE, SIZE, 3))
    return np.clip(ramp, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def mask() -> NDArray[np.float32]:
    """(64, 64): a square hole in the middle."""
    hole = np.zeros((SIZE, SIZE), np.float32)
    hole[20:44, 20:44] = 1.0
    return hole


@pytest.fixture
def edit(source: NDArray[np.uint8], mask: NDArray[np.float32]) -> pb.Edit:
    """What the user asked for, as a message."""
    return pb.Edit(source=encode_image(source), denoise_mask=encode_mask(mask), prompt="a red ball")


@pytest.fixture
def make_candidate(source: NDArray[np.uint8], mask: NDArray[np.float32]) -> Callable[..., pb.Candidate]:
    """``make_candidate("a", level=200)``: an inside of one brightness; the dummy scores level / 2.55."""

    def make(name: str = "a", level: int = 128) -> pb.Candidate:
        picture = source.copy()
        picture[mask > 0.5] = level
        return pb.Candidate(candidate_id=name, image=encode_image(picture))

    return make


ServerFactory: TypeAlias = "Callable[..., AbstractAsyncContextManager[tuple[CriticServer, Stub]]]"


@pytest.fixture
def serving() -> ServerFactory:
    """``async with serving(max_streams=2) as (server, stub)``: a server with settings of the test's own."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[tuple[CriticServer, Stub]]:
        defaults: dict[str, Any] = {"port": 0, "critics": ("dummy",), "workers": 2, "warm_up": False}
        chosen = ServerSettings(**{**defaults, **settings})
        async with CriticServer(chosen) as server, grpc.aio.insecure_channel(server.address) as channel:
            yield server, critic_pb2_grpc.CriticServiceStub(channel)

    return start


@pytest.fixture
async def stub(serving: ServerFactory) -> AsyncIterator[Stub]:
    """Calls a server that offers the dummy critic."""
    async with serving() as (_, stub):
        yield stub


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], str]:
    """``offer(MyCritic)``: puts a critic of the test into the registry and returns its name."""

    def add(critic: type) -> str:
        module = types.ModuleType("critics_of_this_test")
        setattr(module, critic.__name__, critic)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(CRITICS, critic.__name__, f"{module.__name__}:{critic.__name__}")
        return critic.__name__

    return add
