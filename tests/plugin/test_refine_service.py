"""The loop on the critics' server shares their devices."""

from __future__ import annotations

from typing import Any

import pytest

from editcritic.plugin import local_runs
from editcritic.plugin.local_runs import LocalEngines
from editcritic.refine.engine import Engine, load_engine
from editcritic.server.hosting import Hosts
from editcritic.server.settings import ServerSettings


def test_an_engine_takes_the_place_that_a_critic_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, Any] = {}

    def opening(name: str, **options: Any) -> Engine:
        opened.update(options)
        return load_engine(name)

    monkeypatch.setattr(local_runs, "load_engine", opening)
    hosts, journal = Hosts(ServerSettings(critics=("dummy",), workers=1)), None
    LocalEngines(hosts, ["dummy"], journal).engine("dummy")  # type: ignore[arg-type]
    device = hosts.devices.device("cpu")
    with opened["shared"]("cpu"):
        assert not device.is_free
        waiting = device.request("judge")
        assert not waiting.done()
    assert waiting.result(5)
