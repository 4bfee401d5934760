"""A run behind Ray as its front sees it, against replicas that are played: deaths, refusals, items of others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from editcritic.refine.journal import Journal
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import (
    EditCriticError,
    ImageError,
    InvalidInput,
    Overloaded,
    ServerFault,
    ServerUnavailable,
    error_from_status,
)
from tests.server.speaking import wait_until

pytest.importorskip("ray", reason="Ray is not installed: pip install 'editcritic[ray]'")
from google.rpc import status_pb2
from ray.exceptions import ActorDiedError, ObjectLostError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from editcritic.plugin.ray_items import Answer, Question, RunOrder
from editcritic.plugin.ray_runs import OpenedEngine, RemoteRun

Script = Sequence[Any]
"""What a replica tells in one attempt: (kind, payload), an exception that ends it, or None for waiting for ever."""

BEGIN, END = ("begin", None), ("end", None)


def event(sequence: int, *, is_new: bool = True) -> Any:
    told = refine_pb2.RefineResponse(sequence=sequence)
    told.candidate_started.seed = 100 + sequence
    return "event", (told.SerializeToString(), is_new)


class PlayedEngine:
    """A deployment whose replicas go by scripts, one for each attempt; the last is repeated."""

    def __init__(self, *scripts: Script, name: str | None = None) -> None:
        self._scripts, self._name = list(scripts), name
        self.orders: list[RunOrder] = []
        self.cancelled = 0
        self.run = self

    def remote(self, order: RunOrder) -> Any:
        script = self._scripts[min(len(self.orders), len(self._scripts) - 1)]
        self.orders.append(order)
        return PlayedStream(self, script, self._name or order.name)


class PlayedStream:
    def __init__(self, engine: PlayedEngine, script: Script, name: str) -> None:
        self._engine, self._rest, self._name = engine, list(script), name

    def __aiter__(self) -> PlayedStream:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        if not self._rest:
            raise StopAsyncIteration
        item = self._rest.pop(0)
        if item is None:
            await asyncio.sleep(3600)
        if isinstance(item, Exception):
            raise item
        return (self._name, *item)

    def cancel(self) -> None:
        self._engine.cancelled += 1


class PlayedPost:
    """Keeps the answers; `dies` times it dies first."""

    def __init__(self, dies: int = 0) -> None:
        self.mailbox, self.answers, self._dies = "mailbox", list[Answer](), dies
        self.forgotten: list[str] = []

    async def bring(self, _run: str, _number: int, answer: Answer) -> None:
        if self._dies:
            self._dies -= 1
            raise ActorDiedError
        self.answers.append(answer)

    def forget(self, run: str) -> None:
        self.forgotten.append(run)


class PlayedHosts:
    """Opens edits with a critic that answers, or raises."""

    def __init__(self, answer: pb.Critique | EditCriticError) -> None:
        self._answer = answer
        self.open_edits = 0

    async def open(self, _edit: pb.Edit, options: pb.CritiqueOptions) -> Any:
        self.open_edits += 1
        info = pb.CriticInfo(identity=pb.CriticIdentity(name=options.critic or "dummy"))
        return SimpleNamespace(host=SimpleNamespace(info=info), critique=self._critique, close=self._close)

    def _close(self) -> None:
        self.open_edits -= 1

    async def _critique(self, _candidate: pb.Candidate, _progress: object) -> pb.Critique:
        if isinstance(self._answer, EditCriticError):
            raise self._answer
        return self._answer


class Front:
    """One run of an edit "mine", with all that is played around it."""

    def __init__(self, engine: PlayedEngine, journal: Journal, **more: Any) -> None:
        self.hosts: Any = PlayedHosts(more.get("answer", pb.Critique(explanation="fine")))
        self.post: Any = more.get("post", PlayedPost())
        self.ended = 0
        opened = OpenedEngine(engine, "dummy", refine_pb2.EngineInfo(name="dummy"))
        self.run = RemoteRun(opened, REQUEST, self.hosts, journal, self.post, self._end)

    def _end(self) -> None:
        self.ended += 1

    async def told(self) -> list[int]:
        return [each.sequence async for each in self.run.events()]


REQUEST = refine_pb2.RefineRequest(edit=pb.Edit(edit_id="mine", prompt="a ball"))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite3")


def kept(journal: Journal) -> list[int]:
    return [each.sequence for each in journal.events("mine")]


async def test_an_event_is_journaled_before_it_is_passed_on(journal: Journal) -> None:
    front = Front(PlayedEngine([BEGIN, event(1), event(2), event(3, is_new=False), END]), journal)
    seen = []
    async for each in front.run.events():
        seen.append(each.sequence)
        assert each.sequence in kept(journal) or each.sequence == 3
    assert seen == [1, 2, 3]
    assert kept(journal) == [1, 2], "what can be made again, the end of a run that was cancelled, is not kept"
    await wait_until(lambda: front.ended == 1)
    assert front.hosts.open_edits == 0


@pytest.mark.parametrize(
    "how", [ActorDiedError(), ObjectLostError("f" * 56, "", "")], ids=["replica", "machine"]
)
async def test_another_replica_goes_on_from_the_journal_and_nothing_is_told_twice(
    how: Exception, journal: Journal
) -> None:
    past = [event(1, is_new=False), event(2, is_new=False)]
    engine = PlayedEngine([BEGIN, event(1), event(2), how], [BEGIN, *past, event(3), END])
    front = Front(engine, journal)
    assert await front.told() == [1, 2, 3]
    assert kept(journal) == [1, 2, 3]
    assert [len(order.past) for order in engine.orders] == [0, 2]
    assert engine.orders[0].name != engine.orders[1].name
    assert front.post.forgotten == [order.name for order in engine.orders]


async def test_an_edit_that_kills_whoever_carries_it_out_ends_and_can_be_resumed(journal: Journal) -> None:
    engine = PlayedEngine(
        [BEGIN, event(1), ActorDiedError()], [BEGIN, event(1, is_new=False), ActorDiedError()]
    )
    front = Front(engine, journal)
    with pytest.raises(ServerUnavailable, match="resume") as caught:
        await front.told()
    assert len(engine.orders) == 3
    assert caught.value.reason == pb.ERROR_REASON_ENGINE_UNAVAILABLE
    assert caught.value.retry_after_s
    assert kept(journal) == [1]


async def test_what_belongs_to_another_run_is_never_passed_on(journal: Journal) -> None:
    front = Front(PlayedEngine([BEGIN, event(1), END], name="of-another-front"), journal)
    with pytest.raises(ServerFault):
        await front.told()
    with pytest.raises(EditCriticError):
        journal.request("mine")


async def test_a_stream_that_stops_in_the_middle_is_no_end(journal: Journal) -> None:
    front = Front(PlayedEngine([BEGIN, event(1)]), journal)
    with pytest.raises(ServerFault):
        await front.told()


@pytest.mark.parametrize(
    ("raised", "expected", "reason"),
    [
        (BackPressureError(num_queued_requests=9, max_queued_requests=8), Overloaded, "QUEUE_FULL"),
        (DeploymentUnavailableError("dummy"), ServerUnavailable, "ENGINE_UNAVAILABLE"),
        (RayTaskError("f", "Traceback: secret /home/user, pid=7", ValueError()), ServerFault, "INTERNAL"),
    ],
)
async def test_what_ray_refuses_is_told_in_our_words(
    raised: Exception, expected: type, reason: str, journal: Journal
) -> None:
    engine = PlayedEngine([raised])
    with pytest.raises(expected) as caught:
        await Front(engine, journal).told()
    error = caught.value
    assert isinstance(error, EditCriticError)
    assert error.reason_name == reason
    assert "secret" not in str(error.to_status())
    assert (error.retry_after_s is None) == (expected is ServerFault)
    assert len(engine.orders) == 1, "only a death is tried again"


async def test_a_run_that_is_left_is_taken_back_from_the_replica(journal: Journal) -> None:
    engine = PlayedEngine([BEGIN, event(1), None])
    front = Front(engine, journal)
    async for _ in front.run.events():
        break
    front.run.leave()
    await wait_until(lambda: front.ended == 1)
    assert (engine.cancelled, front.hosts.open_edits, kept(journal)) == (1, 0, [1])
    front.run.leave()


async def test_what_is_being_written_when_a_run_is_left_is_there_when_it_is_resumed(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, is_writing = journal.append, threading.Event()

    def slow(*what: Any) -> None:
        is_writing.set()
        time.sleep(0.2)
        append(*what)

    monkeypatch.setattr(journal, "append", slow)
    front = Front(PlayedEngine([BEGIN, event(1), END]), journal)
    await wait_until(is_writing.is_set)
    front.run.leave()
    await wait_until(lambda: front.ended == 1)
    assert kept(journal) == [1]


async def test_a_client_that_reads_slowly_holds_the_run_and_not_the_memory(journal: Journal) -> None:
    front = Front(PlayedEngine([BEGIN, *(event(number) for number in range(1, 101)), END]), journal)
    await wait_until(lambda: len(kept(journal)) >= 16)
    await asyncio.sleep(0.2)
    assert len(kept(journal)) <= 20
    assert await front.told() == list(range(1, 101))


async def test_an_edit_of_the_same_name_that_asked_for_something_else_stops_the_replica(
    journal: Journal,
) -> None:
    journal.begin("mine", refine_pb2.RefineRequest(edit=pb.Edit(edit_id="mine", prompt="a cube")))
    engine = PlayedEngine([BEGIN, event(1), END])
    with pytest.raises(InvalidInput, match="asked for something else"):
        await Front(engine, journal).told()
    assert (engine.cancelled, kept(journal)) == (1, [])


def question(number: int, *, is_held_out: bool = False) -> Any:
    asked = pb.Candidate(candidate_id="seed-1").SerializeToString()
    return "question", Question(number, is_held_out, asked, None)


@pytest.mark.parametrize(
    ("answer", "understood"),
    [
        (pb.Critique(explanation="fine"), lambda data: pb.Critique.FromString(data).explanation == "fine"),
        (
            ImageError("too dark", reason=pb.ERROR_REASON_IMAGE_SIZE),
            lambda data: isinstance(error_from_status(status_pb2.Status.FromString(data)), ImageError),
        ),
    ],
)
async def test_critics_answer_or_refuse_and_the_run_is_told(
    answer: Any, understood: Callable[[bytes], bool], journal: Journal
) -> None:
    front = Front(PlayedEngine([BEGIN, question(1), END]), journal, answer=answer)
    assert await front.told() == []
    ((is_judged, data),) = front.post.answers
    assert is_judged == isinstance(answer, pb.Critique)
    assert understood(data)


async def test_a_way_back_that_died_costs_the_attempt_and_not_the_run(journal: Journal) -> None:
    engine = PlayedEngine([BEGIN, question(1), event(1), END])
    front = Front(engine, journal, post=PlayedPost(dies=1))
    assert await front.told() == [1]
    assert len(engine.orders) == 2
