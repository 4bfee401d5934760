"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.critics import CRITICS
from tests.conftest import ServerFactory
from tests.server.conformance import staged
from tests.server.conformance.staged import STAGE_VARIABLE, Stage
from tests.server.on_ray import TWO_REPLICAS, small_ray
from tests.server.speaking import Stream


@pytest.fixture
def streaming(stub: Any) -> Callable[[], Stream]:
    """``streaming()`` opens a call on the dummy server."""
    return lambda: Stream(stub.CritiqueStream())


@pytest.fixture(scope="session")
def stage_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where tests direct the staged critic from, in this process and in those that it starts."""
    folder = tmp_path_factory.mktemp("staged") / "stage"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STAGE_VARIABLE, str(folder))
        yield folder


@pytest.fixture
def stage(stage_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Directs the critic "staged", whose curtain is up."""
    monkeypatch.setitem(CRITICS, "staged", "")
    staged.register()
    stage = Stage(stage_folder)
    stage.clear()
    yield stage
    stage.open()


@pytest.fixture(scope="session")
def ray_cluster(stage_folder: Path) -> Iterator[None]:
    """Ray, started once for all tests that need it."""
    with small_ray():
        yield


@pytest.fixture
def serving_on_ray(ray_cluster: None, serving: ServerFactory) -> ServerFactory:
    """As `serving`, with critics in replicas that are there already, or that the server deploys."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[Any]:
        async with serving(**{"executor": "ray", "ray": TWO_REPLICAS, **settings}) as both:
            yield both

    return start
