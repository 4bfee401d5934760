"""The front's side of Ray, against a deployment that is played: deaths, refusals, and answers of others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.executors.ray_wire import RemoteEdit, Reply, SentTask, told, understood
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import (
    Cancelled,
    EditCriticError,
    ImageError,
    Overloaded,
    ServerFault,
    ServerUnavailable,
)

pytest.importorskip("ray", reason="Ray is not installed: pip install 'editcritic[ray]'")
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from editcritic.server.executors import ray as module

PIXELS = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
EDIT = DecodedEdit("mine", PIXELS, np.ones((8, 8), np.float32), prompt="a ball")
Answer = Callable[[Sequence[SentTask]], "list[Reply]"]


class PlayedDeployment:
    """A handle whose calls are answered by a function; what it raises is what Ray would."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.batches: list[list[str]] = []
        self.cancelled = 0
        self.critique = self

    def remote(self, sent: Sequence[SentTask], held: Any) -> Any:
        assert {task.edit_key for task in sent} == set(held)
        self.batches.append([task.candidate_id for task in sent])
        return PlayedResponse(self, sent)


class PlayedResponse:
    def __init__(self, deployment: PlayedDeployment, sent: Sequence[SentTask]) -> None:
        self._deployment, self._sent = deployment, sent

    def __await__(self) -> Any:
        async def wait() -> list[Reply]:
            answer = self._deployment._answer(self._sent)
            if not answer:
                await asyncio.sleep(3600)
            return answer

        return wait().__await__()

    def cancel(self) -> None:
        self._deployment.cancelled += 1


def tasks(names: str) -> list[CritiqueTask]:
    prepared = RemoteEdit("reference", 1)
    return [CritiqueTask(EDIT, prepared, DecodedCandidate(name, PIXELS)) for name in names]


def judged(task: SentTask) -> Reply:
    return told(task.name, pb.Critique(explanation=task.candidate_id))


async def outcomes(
    answer: Answer, names: str = "abc", is_cancelled: Callable[[], bool] = lambda: False
) -> tuple[PlayedDeployment, list[Outcome]]:
    deployment = PlayedDeployment(answer)
    return deployment, await module.RayExecutor(deployment, "dummy").critique(tasks(names), is_cancelled)


def said(found: Sequence[Outcome]) -> list[Any]:
    return [each.explanation if isinstance(each, pb.Critique) else type(each) for each in found]


async def test_answers_find_their_tasks_in_whatever_order_they_come() -> None:
    _, found = await outcomes(lambda sent: [judged(task) for task in reversed(sent)])
    assert said(found) == ["a", "b", "c"]


async def test_an_error_is_that_of_its_own_candidate() -> None:
    refused = ImageError("too dark", reason=pb.ERROR_REASON_IMAGE_SIZE, field="image", metadata={"side": "8"})

    def answer(sent: Sequence[SentTask]) -> list[Reply]:
        return [told(each.name, refused) if each.candidate_id == "b" else judged(each) for each in sent]

    _, found = await outcomes(answer)
    assert said(found) == ["a", ImageError, "c"]
    assert isinstance(found[1], EditCriticError)
    assert found[1].to_status() == refused.to_status()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda sent: [judged(task) for task in sent[1:]],
        lambda sent: [judged(sent[0]) for _ in sent],
        lambda sent: [told("of-another-front", pb.Critique()), *(judged(task) for task in sent[1:])],
        lambda sent: [*(judged(task) for task in sent), told("of-another-front", pb.Critique())],
    ],
    ids=["one too few", "one twice", "one of another", "one too many"],
)
async def test_answers_to_other_tasks_are_never_passed_on(wrong: Answer) -> None:
    _, found = await outcomes(wrong)
    assert said(found) == [ServerFault] * 3


async def test_a_batch_whose_replica_died_is_judged_by_others_each_candidate_alone() -> None:
    def answer(sent: Sequence[SentTask]) -> list[Reply]:
        if len(sent) > 1:
            raise ActorDiedError
        return [judged(task) for task in sent]

    deployment, found = await outcomes(answer)
    assert said(found) == ["a", "b", "c"]
    assert deployment.batches == [["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_a_candidate_that_kills_whoever_judges_it_fails_alone_and_does_not_kill_for_ever() -> None:
    def answer(sent: Sequence[SentTask]) -> list[Reply]:
        if any(task.candidate_id == "b" for task in sent):
            raise ActorDiedError
        return [judged(task) for task in sent]

    deployment, found = await outcomes(answer)
    assert said(found) == ["a", ServerFault, "c"]
    assert sum("b" in batch for batch in deployment.batches) == 3


async def test_a_dead_replicas_work_is_not_begun_anew_for_nobody() -> None:
    def answer(sent: Sequence[SentTask]) -> list[Reply]:
        raise ActorDiedError

    deployment, found = await outcomes(answer, "ab", is_cancelled=lambda: True)
    assert said(found) == [Cancelled, Cancelled]
    assert len(deployment.batches) == 1


@pytest.mark.parametrize(
    ("raised", "expected", "reason"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), Overloaded, "QUEUE_FULL"),
        (DeploymentUnavailableError("dummy"), ServerUnavailable, "CRITIC_UNAVAILABLE"),
        (
            RayTaskError("f", "Traceback: secret /home/user, pid=7", ValueError()),
            ServerFault,
            "CRITIC_FAILED",
        ),
    ],
)
async def test_what_ray_refuses_is_told_in_our_words(raised: Exception, expected: type, reason: str) -> None:
    def answer(sent: Sequence[SentTask]) -> list[Reply]:
        raise raised

    deployment, found = await outcomes(answer)
    assert said(found) == [expected] * 3
    assert len(deployment.batches) == 1, "only a death is tried again"
    for each in found:
        assert isinstance(each, EditCriticError)
        assert each.reason_name == reason
        assert "secret" not in str(each.to_status())
        assert (each.retry_after_s is None) == (expected is ServerFault)


async def test_work_that_nobody_waits_for_is_taken_back_from_the_replica() -> None:
    left = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, left.set)
    deployment, found = await outcomes(lambda sent: [], is_cancelled=left.is_set)
    assert said(found) == [Cancelled] * 3
    assert deployment.cancelled == 1


def test_a_task_is_the_same_after_its_way() -> None:
    image = PIXELS.copy()
    image[2:5, 1:4] = 255
    region, progress = pb.Box(x=1, y=2, width=3, height=3), pb.DenoisingProgress(fraction=0.5)
    options = pb.CritiqueOptions(heat_map=True, max_defect_count=3)
    candidate = DecodedCandidate("c", image, region, progress)
    sent = SentTask.of(CritiqueTask(EDIT, RemoteEdit("reference", 1), candidate, options))
    assert sent.pixels.shape == (3, 3, 3), "beyond its region a candidate is the source"
    nameless = DecodedEdit("", EDIT.source, EDIT.denoise_mask, prompt=EDIT.prompt)
    again = sent.task(nameless, "prepared")
    assert (again.edit.edit_id, again.prepared, again.options) == ("mine", "prepared", options)
    assert (again.candidate.region, again.candidate.progress) == (region, progress)
    np.testing.assert_array_equal(again.candidate.image, image)
    np.testing.assert_array_equal(EDIT.source, PIXELS, "the source is not written to")
    assert understood([sent], [judged(sent)])
