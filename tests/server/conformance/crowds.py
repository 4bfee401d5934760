"""Many callers at once, over calls and streams, in batches of one another's candidates: each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask
from editcritic.server.decoders import IN_PROCESS
from editcritic.server.decoding import decode_candidate, decode_edit
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from tests.server.speaking import Stream

MakeCandidate = Callable[..., pb.Candidate]
BATCHED = "dummy@20+2"


def level_of(critique: pb.Critique) -> float:
    """The brightness that the dummy saw, which names the candidate among all others."""
    return critique.scores.overall.value * 2.55


async def call(stub: Any, edit: pb.Edit, candidate: pb.Candidate, level: int) -> None:
    critique = (await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=candidate))).critique
    assert critique.candidate_id == candidate.candidate_id
    assert level_of(critique) == pytest.approx(level, abs=1e-3)


async def stream(stub: Any, edit: pb.Edit, candidates: dict[int, pb.Candidate]) -> None:
    stream = Stream(stub.CritiqueStream())
    await stream.open(edit)
    for candidate in candidates.values():
        await stream.send(candidate=candidate)
    critiques = {
        event.critique.candidate_id: level_of(event.critique)
        for event in await stream.finish()
        if event.HasField("critique")
    }
    expected = {each.candidate_id: pytest.approx(level, abs=1e-3) for level, each in candidates.items()}
    assert critiques == expected


async def crowd(stub: Any, edit: pb.Edit, make_candidate: MakeCandidate) -> None:
    """Sixty-four callers of a call and four streams of sixteen, each with candidates of brightnesses of its own."""
    callers = []
    for level in range(64):
        # Another prompt is another edit: batches hold candidates of several.
        own = pb.Edit.FromString(edit.SerializeToString())
        own.prompt = f"prompt {level % 5}"
        callers.append(call(stub, own, make_candidate("same-name", level), level))
    for number in range(4):
        levels = range(100 + 20 * number, 116 + 20 * number)
        callers.append(stream(stub, edit, {level: make_candidate(f"c{level}", level) for level in levels}))
    await asyncio.gather(*callers)


async def test_many_callers_each_get_their_own_answer(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=(BATCHED,)) as (_, stub):
        await crowd(stub, edit, make_candidate)


async def test_the_numbers_are_those_of_the_critic_itself(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    await check_numbers("evidence", serving, edit, make_candidate)


async def check_numbers(critic: str, serving: Any, edit: pb.Edit, make_candidate: MakeCandidate) -> None:
    """Scores over a server are those that the critic gives in this process, to 1e-4; also with a crop and a preview."""
    settings = ServerSettings(critics=("dummy",))
    decoded = decode_edit(edit, settings, IN_PROCESS)
    candidates = [make_candidate(f"c{level}", level) for level in (40, 128, 230)]
    with ThreadPoolExecutor(1) as pool:
        executor = LocalExecutor(load_critic(critic), pool)
        prepared = await executor.prepare(decoded)
        tasks = [
            CritiqueTask(
                decoded, prepared, decode_candidate(each, None, decoded.source, settings, IN_PROCESS)
            )
            for each in candidates
        ]
        alone = await executor.critique(tasks, lambda: False)
    async with serving(critics=(critic,)) as (_, stub):
        for candidate, expected in zip(candidates, alone, strict=True):
            answer = await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=candidate))
            assert isinstance(expected, pb.Critique)
            assert numbers(answer.critique) == pytest.approx(numbers(expected), abs=1e-4)
            assert answer.critique.critic == expected.critic
            assert [each.kind for each in answer.critique.defects] == [each.kind for each in expected.defects]


def numbers(critique: pb.Critique) -> dict[str, float]:
    return {field.name: score.value for field, score in critique.scores.ListFields()}
