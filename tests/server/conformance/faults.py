"""A critic that fails, lies or dawdles costs nobody else an answer, and nothing of its insides is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from editcritic.v1 import critic_pb2 as pb
from tests.server.conformance.staged import Stage
from tests.server.speaking import Stream, refusal, wait_until

MakeCandidate = Callable[..., pb.Candidate]


async def test_a_critic_that_raises_fails_its_own_candidate_and_tells_no_secrets(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    edit.prompt = "raise"
    async with serving(critics=("staged",)) as (_, stub):
        candidates = [make_candidate("bright", 200), make_candidate("dark", 0), make_candidate("light", 100)]
        ranking = (await stub.Rank(pb.RankRequest(edit=edit, candidates=candidates))).ranking
        assert [entry.candidate_id for entry in ranking] == ["bright", "light", "dark"]
        error = await refusal(stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("d", 0))))
        assert error.code == grpc.StatusCode.INTERNAL.value[0]
        assert error.reason == pb.ERROR_REASON_CRITIC_FAILED
        assert error.metadata["incident"] in error.message
        told = str(error.to_status())
        assert not any(word in told for word in ("secret", "Traceback", "ZeroDivision", "ray", "pid"))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("no number", pb.ERROR_REASON_CRITIC_FAILED),
        ("too high", pb.ERROR_REASON_CRITIC_FAILED),
        ("miscount", pb.ERROR_REASON_CRITIC_FAILED),
        ("no memory", pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY),
        ("fail to prepare", pb.ERROR_REASON_CRITIC_FAILED),
    ],
)
async def test_an_unsound_answer_is_an_error_and_never_a_score(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate, how: str, reason: int
) -> None:
    edit.prompt = how
    async with serving(critics=("staged",)) as (_, stub):
        error = await refusal(stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate())))
        assert error.reason == reason
        assert "secret" not in str(error.to_status())


async def test_a_budget_ends_the_wait_and_the_work(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1) as (_, stub):
        options = pb.CritiqueOptions(budget_ms=300)
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate(), options=options)
        error = await refusal(stub.Critique(request))
        assert error.reason == pb.ERROR_REASON_BUDGET_EXCEEDED
        await wait_until(stage.was_cancelled)


async def test_a_caller_that_leaves_frees_the_worker(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1) as (server, stub):
        call = stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("left")))
        await wait_until(lambda: stage.asked == ["left"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await wait_until(stage.was_cancelled)
        await wait_until(lambda: server._hosts.admission.byte_count == 0)
        stage.open()
        answer = await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate("next", 255)))
        assert answer.critique.scores.overall.value == pytest.approx(100)


async def test_a_budget_on_a_stream_fails_the_candidate_and_not_the_stream(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit, budget_ms=200)
        await stream.send(candidate=make_candidate("late"))
        assert (await stream.next()).candidate_error.status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert (await stream.finish())[-1].closed.error_count == 1
