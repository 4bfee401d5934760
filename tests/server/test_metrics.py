"""What the metrics say after work whose outcome is known, and what they never say."""

from __future__ import annotations

import asyncio
import math
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from editcritic.server.app import CriticServer
from editcritic.server.critics.base import Outcome
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.drift import ScoreDrift
from editcritic.server.settings import SettingsError
from editcritic.v1 import critic_pb2 as pb
from tests.server.speaking import Stream, refusal

SECRET = "a-long-random-token"


async def page(server: CriticServer) -> str:
    url = f"http://{server.operations.metrics_address}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    return await asyncio.to_thread(read)


async def value(server: CriticServer, name: str, **labels: str) -> float:
    """A sample's value; 0 when there is none of it yet."""
    found = [
        sample.value
        for family in text_string_to_metric_families(await page(server))
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found[0] if found else 0.0


def request(edit: pb.Edit, candidate: pb.Candidate, **options: Any) -> pb.CritiqueRequest:
    return pb.CritiqueRequest(edit=edit, candidate=candidate, options=pb.CritiqueOptions(**options))


async def test_judged_candidates_are_counted_with_their_stages_and_scores(
    serving: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving(metrics_port=0) as (server, stub):
        for level in (51, 102, 204):  # 20, 40 and 80 percent
            await stub.Critique(request(edit, make_candidate("a", level)))
        dummy = {"critic": "dummy"}
        assert await value(server, "editcritic_items_total", **dummy, kind="candidate", status="scored") == 3
        assert await value(server, "editcritic_item_seconds_count", **dummy) == 3
        for stage in ("decode", "prepare", "queue", "critique"):
            assert await value(server, "editcritic_stage_seconds_count", **dummy, stage=stage) == 3
        assert await value(server, "editcritic_batch_size_sum", **dummy) == 3
        assert await value(server, "editcritic_score_bucket", **dummy, le="50.0") == 2
        assert await value(server, "editcritic_abstentions_total", **dummy, dimension="prompt_alignment") == 3
        assert (
            await value(
                server,
                "editcritic_calls_total",
                method="CriticService/Critique",
                status="OK",
                transport="grpc",
            )
            == 3
        )
        assert await value(server, "editcritic_queue_items") == 0
        assert await value(server, "editcritic_queue_items_limit") == server.settings.max_queued
        assert await value(server, "process_resident_memory_bytes") > 1e6
        assert await value(server, "editcritic_critic_ready", critic="dummy", version="1") == 1


async def test_failures_are_counted_by_their_reason(serving: Any, edit: pb.Edit) -> None:
    async with serving(metrics_port=0) as (server, stub):
        broken = pb.Candidate(
            image=pb.Image(encoded=pb.EncodedImage(data=b"no picture", format=pb.IMAGE_FORMAT_PNG))
        )
        await refusal(stub.Critique(request(edit, broken)))
        labels = {"critic": "dummy", "kind": "candidate", "status": "image_undecodable"}
        assert await value(server, "editcritic_items_total", **labels) == 1
        method = "CriticService/Critique"
        assert (
            await value(
                server, "editcritic_calls_total", method=method, status="INVALID_ARGUMENT", transport="grpc"
            )
            == 1
        )


class Held(DummyCritic):
    """Judges once it is let go."""

    began, let_go = threading.Event(), threading.Event()

    def critique(self, tasks: Any, is_cancelled: Any) -> list[Outcome]:
        self.began.set()
        self.let_go.wait(20)
        return super().critique(tasks, is_cancelled)


async def test_streams_and_dropped_previews_are_counted(
    serving: Any, offer: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving(metrics_port=0, critics=(offer(Held),), workers=1) as (server, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        assert await value(server, "editcritic_streams_open") == 1
        await stream.preview(make_candidate("a"), 0.1)
        await asyncio.to_thread(Held.began.wait, 20)
        for step in range(2, 6):  # each takes the place of the one before it
            await stream.preview(make_candidate("a"), 0.1 * step)
        for _ in range(3):
            assert (await stream.next()).dropped.reason == pb.DROP_REASON_SUPERSEDED
        Held.let_go.set()
        await stream.finish()
        assert await value(server, "editcritic_dropped_total", kind="preview", reason="superseded") == 3
        assert await value(server, "editcritic_streams_open") == 0


async def test_refusals_are_counted_by_caller(
    serving: Any, tmp_path: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"studio {SECRET} score per_minute=1\n")
    tokens.chmod(0o600)
    async with serving(metrics_port=0, tokens_path=tokens) as (server, stub):
        mine = (("authorization", f"Bearer {SECRET}"),)
        await stub.ListCritics(pb.ListCriticsRequest(), metadata=mine)
        await refusal(stub.ListCritics(pb.ListCriticsRequest(), metadata=mine))
        await refusal(stub.ListCritics(pb.ListCriticsRequest()))
        count = "editcritic_refusals_total"
        assert await value(server, count, caller="studio", reason="quota_exceeded") == 1
        assert await value(server, count, caller="anonymous", reason="unauthenticated") == 1
        assert SECRET not in await page(server)


async def test_nothing_that_a_client_sent_is_on_the_page(
    serving: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    edit.prompt, edit.edit_id = "a very private prompt", "private-edit"
    async with serving(metrics_port=0) as (server, stub):
        await stub.Critique(request(edit, make_candidate("private-candidate")))
        await refusal(stub.Critique(request(edit, make_candidate(), critic="private-critic")))
        assert "private" not in await page(server)


async def test_without_a_port_there_are_no_metrics(serving: Any) -> None:
    async with serving() as (server, _):
        assert server.operations.metrics_address == ""
        assert not server.operations._hosts.observer.members


async def test_a_taken_port_is_told(serving: Any) -> None:
    async with serving(metrics_port=0) as (server, _):
        taken = int(server.operations.metrics_address.rsplit(":", 1)[1])
        with pytest.raises(SettingsError, match=f"metrics on 127.0.0.1:{taken}"):
            async with serving(metrics_port=taken):
                pass


def test_drift_is_small_for_the_same_scores_and_large_for_shifted_ones() -> None:
    rng = np.random.default_rng(5)
    same, shifted, short = ScoreDrift(500), ScoreDrift(500), ScoreDrift(500)
    for score in rng.normal(60, 10, 500):
        for each in (same, shifted, short):
            each.note(score)
    for score in rng.normal(60, 10, 500):
        same.note(score)
        shifted.note(score - 10)
    assert 0 <= same.index() < 0.1
    assert shifted.index() > 0.25
    assert math.isnan(short.index())


def test_drift_of_a_critic_that_always_says_the_same_is_none() -> None:
    drift = ScoreDrift(50)
    for _ in range(100):
        drift.note(70.0)
    assert drift.index() == pytest.approx(0)
