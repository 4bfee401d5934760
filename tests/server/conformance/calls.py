"""Unary calls: one critique, a ranking, the list of critics, a verdict."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import encode_image, encode_mask
from tests.server.speaking import refusal

MakeCandidate = Callable[..., pb.Candidate]


async def test_a_critique_names_its_critic_and_its_meaning(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    answer = await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 255)))
    critique = answer.critique
    assert critique.candidate_id == "a"
    assert critique.critic.name == "dummy"
    assert critique.critic.version
    assert critique.critic.score_meaning
    assert critique.scores.overall.value == pytest.approx(100.0)
    assert critique.scores.prompt_alignment.status == pb.SCORE_STATUS_ABSTAINED
    assert not critique.scores.prompt_alignment.HasField("value")


async def test_the_same_request_gets_the_same_numbers(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 77))
    first, second = (await stub.Critique(request)).critique, (await stub.Critique(request)).critique
    assert first.scores == second.scores


async def test_a_crop_with_its_region_is_judged_like_the_whole(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate, source: Any
) -> None:
    whole = await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 240)))
    picture = source.copy()
    picture[20:44, 20:44] = 240
    crop = pb.Candidate(
        candidate_id="a",
        image=encode_image(picture[16:48, 16:48]),
        region=pb.Box(x=16, y=16, width=32, height=32),
    )
    part = await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=crop))
    assert part.critique.scores == whole.critique.scores


async def test_a_mask_of_the_same_aspect_ratio_is_resized(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate, mask: Any
) -> None:
    edit.denoise_mask.CopyFrom(encode_mask(mask[::2, ::2]))
    answer = await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", 255)))
    assert answer.critique.scores.overall.value > 95


async def test_rank_orders_best_first_and_says_why(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    candidates = [make_candidate("dark", 10), make_candidate("bright", 240), make_candidate("middle", 128)]
    ranking = (await stub.Rank(pb.RankRequest(edit=edit, candidates=candidates))).ranking
    assert [(entry.place, entry.candidate_id) for entry in ranking] == [
        (1, "bright"),
        (2, "middle"),
        (3, "dark"),
    ]
    assert "overall 94" in ranking[0].reason


async def test_a_failed_candidate_never_outranks_a_judged_one(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    broken = pb.Candidate(candidate_id="broken", image=pb.Image(encoded=pb.EncodedImage(data=b"no picture")))
    candidates = [broken, make_candidate("black", 0)]
    ranking = (await stub.Rank(pb.RankRequest(edit=edit, candidates=candidates))).ranking
    assert [(entry.place, entry.candidate_id) for entry in ranking] == [(1, "black"), (0, "broken")]
    assert ranking[1].error.code == 3
    assert not ranking[1].HasField("critique")


async def test_equal_candidates_keep_their_order(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    candidates = [make_candidate(name, 100) for name in ("z", "a", "m")]
    ranking = (await stub.Rank(pb.RankRequest(edit=edit, candidates=candidates))).ranking
    assert [entry.candidate_id for entry in ranking] == ["z", "a", "m"]


async def test_every_limit_can_be_asked_for(stub: Any) -> None:
    answer = await stub.ListCritics(pb.ListCriticsRequest())
    assert [critic.identity.name for critic in answer.critics] == ["dummy"]
    assert answer.protocol_revision == 1
    assert answer.server_version
    unset = [
        field.name for field in answer.limits.DESCRIPTOR.fields if getattr(answer.limits, field.name) <= 0
    ]
    assert unset == ["decoding_timeout_ms"], (
        "on loopback pictures are decoded in the server, without a time limit"
    )


async def test_a_verdict_is_kept_once(serving: Any, tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "verdicts.sqlite3"
    verdict = pb.RecordVerdictRequest(
        verdict_id="v1",
        edit_id="e1",
        candidate_id="c1",
        kind=pb.VERDICT_KIND_REJECTED,
        rating=12.5,
        critique=pb.Critique(explanation="seam", heat_maps=[pb.HeatMap()]),
    )
    async with serving(verdicts_path=path) as (_, stub):
        assert (await stub.RecordVerdict(verdict)).created
        assert not (await stub.RecordVerdict(verdict)).created
    rows = sqlite3.connect(path).execute("SELECT kind, rating, critique FROM verdicts").fetchall()
    assert [(kind, rating) for kind, rating, _ in rows] == [("VERDICT_KIND_REJECTED", 12.5)]
    kept = pb.Critique.FromString(rows[0][2])
    assert kept.explanation == "seam"
    assert not kept.heat_maps


async def test_a_server_without_a_store_says_so(stub: Any) -> None:
    verdict = pb.RecordVerdictRequest(
        verdict_id="v", edit_id="e", candidate_id="c", kind=pb.VERDICT_KIND_ACCEPTED
    )
    error = await refusal(stub.RecordVerdict(verdict))
    assert error.reason == pb.ERROR_REASON_VERDICTS_NOT_KEPT
