"""Servers side by side: only right answers are figures, and what cannot be measured is told with the reason."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin import contenders
from editcritic.plugin.benchmark import example_edit
from editcritic.plugin.contenders import PEERS, Ask, Contender, Refused, peer
from editcritic.plugin.peer_benchmark import (
    PeerBench,
    ask_all,
    behaviour,
    behaviour_rows,
    is_right,
    measure_peers,
    peer_rows,
)
from editcritic.plugin.peer_plot import draw_peer_plot
from editcritic.plugin.peers import flask_peer
from editcritic.plugin.peers.judge import Judge, pictures_of_json
from editcritic.v1.errors import InvalidInput

RIGHT = {"overall": 50.0, "harmony": 40.0}


class FakePeer:
    """Judges one at a time, and goes on with what nobody waits for any more if it is `stubborn`."""

    def __init__(self, scores: dict[str, float] = RIGHT, *, stubborn: bool = False) -> None:
        self.scores, self.stubborn = scores, stubborn
        self.turn = asyncio.Lock()
        self.judged = self.most_open = self.open = 0

    def contender(self) -> Contender:
        @asynccontextmanager
        async def connect(count: int, is_spoiled: bool) -> AsyncIterator[list[Ask]]:
            yield [self.refuse if is_spoiled else self.ask] * count

        return Contender("fake", 10, connect)

    async def refuse(self) -> dict[str, float]:
        raise Refused("HTTP 400")

    async def ask(self) -> dict[str, float]:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        work = asyncio.ensure_future(self.judge())
        try:
            return await (asyncio.shield(work) if self.stubborn else work)
        finally:
            self.open -= 1

    async def judge(self) -> dict[str, float]:
        async with self.turn:
            await asyncio.sleep(0.01)
            self.judged += 1
            return self.scores


async def test_so_many_are_asked_by_so_many_callers_at_a_time() -> None:
    fake = FakePeer()
    tally = await ask_all([fake.ask] * 4, 10, RIGHT)
    assert (fake.judged, fake.most_open) == (10, 4)
    figures = tally.figures()
    assert figures["requests_per_s"] == pytest.approx(10 / tally.seconds)
    assert figures["count"] == 10
    # All but the first three wait for three others: one at a time takes 10 ms, so four of them at least 40.
    assert figures["p50"] >= 40 > 10 * figures["wrong"]


async def test_a_server_that_answers_wrong_has_no_figures() -> None:
    for wrong in ({"overall": 50.01, "harmony": 40.0}, {"overall": 50.0}):
        figures = (await ask_all([FakePeer(wrong).ask], 3, RIGHT)).figures()
        assert figures == {"wrong": 3, "refused": {}}
    assert is_right({"overall": 50.0005, "harmony": 40.0}, RIGHT)


async def test_nor_has_one_that_refuses() -> None:
    fake = FakePeer()
    tally = await ask_all([fake.ask, fake.refuse], 4, RIGHT)
    assert tally.refused == Counter({"HTTP 400": 3})
    assert "requests_per_s" not in tally.figures()


async def test_behaviour_tells_whether_work_is_done_for_those_who_left() -> None:
    stubborn, wise = FakePeer(stubborn=True), FakePeer()
    told = await behaviour(stubborn.contender(), RIGHT)
    assert (told["bad_picture"], told["neighbours"]) == ("HTTP 400", 3)
    await behaviour(wise.contender(), RIGHT)
    # Three to warm, three neighbours, five alone and one after: the stubborn one judged for the eight as well.
    assert (stubborn.judged, wise.judged) == (12 + 8, 12)


async def test_one_that_judges_half_a_picture_is_told_of() -> None:
    fake = FakePeer()
    fake.refuse = fake.ask  # type: ignore[method-assign]
    assert (await behaviour(fake.contender(), RIGHT))["bad_picture"] == "scores, as if it were whole"


def test_an_unknown_peer_is_named() -> None:
    with pytest.raises(InvalidInput, match=re.escape("known are flask, litserve, ray")):
        measure_peers(PeerBench(("flusk",), "dummy"))


def test_peers_read_what_is_sent_to_them_and_judge_as_the_critic_does() -> None:
    edit, candidate = example_edit()
    mask = np.round(edit.denoise_mask * 255).astype(np.uint8)
    pictures = {"source": edit.source, "mask": mask, "candidate": candidate.image}
    for kind in (PEERS["litserve"], PEERS["ray"]):
        read = pictures_of_json(json.loads(kind.body(pictures)))
        assert all(np.array_equal(read[name], each) for name, each in pictures.items())
        with pytest.raises(OSError, match="truncated"):
            pictures_of_json(json.loads(kind.spoil(kind.body(pictures))))
    sent = flask_peer.pickle.loads(PEERS["flask"].body(pictures))
    inside = float(candidate.image[mask > 0].mean()) / 2.55
    assert Judge("dummy").scores([sent, sent])[1]["overall"] == pytest.approx(inside)


def test_what_cannot_run_here_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ours is measured before and after; one peer lacks its package, another ends before it answers."""
    program = tmp_path / "broken_peer.py"
    program.write_text("raise SystemExit('the port is taken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    absent = replace(PEERS["ray"], needs=("no_such_package",))
    broken = replace(PEERS["litserve"], needs=(), module="broken_peer")
    monkeypatch.setitem(contenders.PEERS, "ray", absent)  # type: ignore[arg-type]
    monkeypatch.setitem(contenders.PEERS, "litserve", broken)  # type: ignore[arg-type]
    pytest.importorskip("aiohttp")
    said: list[str] = []
    bench = PeerBench(("litserve", "ray"), "dummy", requests=6, concurrencies=(1, 3))
    result = measure_peers(bench, said.append)
    assert json.loads(json.dumps(result)) == result
    assert "the port is taken" in result["skipped"]["litserve"]
    assert result["skipped"]["ray"] == "no_such_package is missing: pip install 'editcritic[peers]'"
    names = [run["name"] for run in result["runs"]]
    assert names == ["editcritic, stream", "editcritic, calls"] * 2
    assert all(run["at"][count]["count"] == 6 for run in result["runs"] for count in ("1", "3"))
    assert [run["behaviour"]["bad_picture"] for run in result["runs"][:2]] == [
        "IMAGE_SIZE",
        "IMAGE_UNDECODABLE",
    ]
    assert len(peer_rows(result)) == 4
    assert [row[2] for row in behaviour_rows(result)] == ["3 of 3", "3 of 3"]
    draw_peer_plot(result, tmp_path / "peers.png")
    with Image.open(tmp_path / "peers.png") as drawn:
        assert drawn.width == 900
    assert "starting LitServe" in said


def test_flask_answers_as_ours_does_and_ends_with_its_owner() -> None:
    kind = PEERS["flask"]
    if kind.missing:
        pytest.skip(kind.missing)
    edit, candidate = example_edit()

    async def scores(contender: Any) -> dict[str, float]:
        async with contender.connect(1, False) as (ask,):
            return await ask()

    with peer(kind, "dummy", 1, edit, candidate) as contender:
        found = asyncio.run(scores(contender))

        async def spoiled() -> None:
            async with contender.connect(1, True) as (ask,):
                await ask()

        with pytest.raises(Refused, match="HTTP 500"):
            asyncio.run(spoiled())
    assert found["overall"] == pytest.approx(float(candidate.image[edit.denoise_mask > 0].mean()) / 2.55)
    with pytest.raises(Refused, match="connection lost"):
        asyncio.run(scores(contender))
