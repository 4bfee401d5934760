"""Nothing is sent or judged twice: edits opened by their content, and candidates sent again after a lost connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.server.admission import Admission, Party
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.executors.memory import held_byte_count
from editcritic.server.kept import EditStore, KeptEdit, RecentCritiques
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import NotFound, Overloaded
from tests.server.speaking import Stream, kinds, refusal, wait_until

MakeCandidate = Callable[..., pb.Candidate]


class CountingCritic(DummyCritic):
    """Keeps what it prepared and judged."""

    prepared: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []

    def prepare(self, edit: Any) -> None:
        self.prepared.append(int(edit.source[0, 0, 0]))

    def critique(self, tasks: Any, is_cancelled: Callable[[], bool]) -> Any:
        self.asked.extend(f"{task.edit.edit_id}/{task.candidate.candidate_id}" for task in tasks)
        return super().critique(tasks, is_cancelled)


@pytest.fixture
def counting(offer: Callable[[type], str]) -> type[CountingCritic]:
    CountingCritic.prepared, CountingCritic.asked = [], []
    offer(CountingCritic)
    return CountingCritic


async def reopen(stream: Stream, sha256: bytes, edit_id: str = "") -> pb.EditOpened:
    await stream.send(open=pb.OpenEdit(edit_ref=pb.EditRef(sha256=sha256, edit_id=edit_id)))
    return (await stream.next()).opened


async def test_a_second_stream_opens_the_same_edit_by_its_content_alone(
    serving: Any, counting: type[CountingCritic], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=("CountingCritic",)) as (server, stub):
        first, second = Stream(stub.CritiqueStream()), Stream(stub.CritiqueStream())
        opened = await first.open(edit)
        taken = server._hosts.admission.byte_count
        again = await reopen(second, opened.edit_sha256, "mine")
        assert (again.edit_id, again.edit_sha256) == ("mine", opened.edit_sha256)
        assert server._hosts.admission.byte_count == taken, "one edit takes room once"
        await first.finish()
        await second.send(candidate=make_candidate("c", 51))
        assert (await second.next()).critique.scores.overall.value == pytest.approx(20.0)
        assert kinds(await second.finish()) == ["closed"]
        assert len(counting.prepared) == 1
        await wait_until(lambda: server._hosts.admission.byte_count == 0)
        # Nobody has it open any more, and it is kept all the same.
        assert (await reopen(Stream(stub.CritiqueStream()), opened.edit_sha256)).edit_id
        assert len(counting.prepared) == 1


async def test_the_name_of_an_edit_is_no_part_of_its_content_and_all_else_is(
    serving: Any, edit: pb.Edit
) -> None:
    async with serving() as (_, stub):
        named, other = pb.Edit(), pb.Edit()
        named.CopyFrom(edit)
        named.edit_id = "named"
        other.CopyFrom(edit)
        other.prompt = "a blue ball"
        hashes = [
            (await Stream(stub.CritiqueStream()).open(each)).edit_sha256 for each in (edit, named, other)
        ]
        assert hashes[0] == hashes[1] != hashes[2]


async def test_an_edit_that_is_not_kept_is_not_found(serving: Any, edit: pb.Edit) -> None:
    async with serving(max_kept_edit_bytes=0) as (server, stub):
        first = Stream(stub.CritiqueStream())
        sha256 = (await first.open(edit)).edit_sha256
        await first.finish()
        await wait_until(lambda: server._hosts.admission.byte_count == 0)
        for unknown in (sha256, b"\0" * 32, b""):
            call = stub.CritiqueStream()
            await Stream(call).send(open=pb.OpenEdit(edit_ref=pb.EditRef(sha256=unknown)))
            error = await refusal(call.read())
            assert isinstance(error, NotFound)
            assert error.reason == pb.ERROR_REASON_EDIT_NOT_KEPT


async def test_another_tenant_cannot_open_what_this_one_sent(serving: Any, edit: pb.Edit) -> None:
    async with serving() as (server, _):
        hosts, options = server._hosts, pb.CritiqueOptions()
        opened = await hosts.open(edit, options, Party("anna"))
        ref = pb.EditRef(sha256=opened.sha256)
        hosts.reopen(ref, options, Party("anna", "another connection")).close()
        with pytest.raises(NotFound):
            hosts.reopen(ref, options, Party("bert"))
        opened.close()


async def test_a_candidate_that_is_sent_again_after_a_lost_connection_gets_the_same_answer(
    serving: Any, counting: type[CountingCritic], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=("CountingCritic",)) as (server, stub):
        lost = Stream(stub.CritiqueStream())
        opened = await lost.open(edit)
        await lost.send(candidate=make_candidate("c", 100))
        await lost.preview(make_candidate("d", 90), 0.5)
        await wait_until(lambda: server._hosts.critiques.byte_count > 0 and len(counting.asked) == 2)
        answers = [await lost.next(), await lost.next()]
        lost.call.cancel()
        stream = Stream(stub.CritiqueStream())
        await reopen(stream, opened.edit_sha256, opened.edit_id)
        await stream.send(candidate=make_candidate("c", 100))
        first = await stream.next()
        await stream.preview(make_candidate("d", 90), 0.5)
        assert sorted(map(str, [first, await stream.next()])) == sorted(map(str, answers))
        assert len(counting.asked) == 2
        # Another picture under the name, another share of the steps, another edit: judged anew.
        await stream.send(cancel_candidate=pb.CancelCandidate(candidate_id="c"))
        await stream.send(candidate=make_candidate("c", 200))
        assert (await stream.next()).critique.scores.overall.value == pytest.approx(200 / 2.55)
        await stream.preview(make_candidate("d", 90), 0.75)
        await stream.next()
        other = Stream(stub.CritiqueStream())
        await reopen(other, opened.edit_sha256, "other")
        await other.send(candidate=make_candidate("c", 100))
        await other.next()
        assert len(counting.asked) == 5


async def test_a_single_call_is_judged_each_time(
    serving: Any, counting: type[CountingCritic], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(critics=("CountingCritic",)) as (_, stub):
        for _ in range(2):
            await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate()))
        assert len(counting.asked) == 2
        assert len(counting.prepared) == 1


def kept_edit(name: bytes, side: int = 10, tenant: str = "") -> KeptEdit:
    decoded = DecodedEdit("", np.zeros((side, side, 3), np.uint8), np.ones((side, side), np.float32))
    return KeptEdit(tenant, name, decoded, byte_count=decoded.byte_count)


def test_edits_that_nobody_has_open_are_kept_within_a_budget_the_latest_used_longest() -> None:
    admission = Admission(10, 10**6)
    store, edits = EditStore(admission, max_bytes=1500), [kept_edit(name) for name in (b"a", b"b", b"c")]
    for each in edits:
        store.open(each, Party())
    assert admission.byte_count == 3 * 700
    store.open(edits[0], Party("x"))
    for each in (*edits, edits[0]):
        store.close(each)
    assert admission.byte_count == 0
    assert [store.find("", name) is not None for name in (b"a", b"b", b"c")] == [False, True, True]
    store.find("", b"b")
    late = kept_edit(b"d")
    store.open(late, Party())
    store.close(late)
    assert [store.find("", name) is not None for name in (b"b", b"c", b"d")] == [True, False, True]


def test_an_edit_for_which_there_is_no_room_is_refused_and_not_counted() -> None:
    store, edit = EditStore(Admission(10, 100), max_bytes=1500), kept_edit(b"a")
    with pytest.raises(Overloaded):
        store.open(edit, Party())
    assert edit.user_count == 0


def test_recent_critiques_are_kept_within_a_budget() -> None:
    critique = pb.Critique(explanation="x" * 100)
    recent = RecentCritiques(max_bytes=3 * critique.ByteSize())
    for name in "abc":
        recent.keep(name, b"1", critique)
    assert recent.find("a", b"1") == critique
    recent.keep("d", b"1", critique)
    assert [recent.find(name, b"1") is not None for name in "abcd"] == [True, False, True, True]
    assert [recent.knows(name) for name in "abcd"] == [True, False, True, True]
    recent.keep("d", b"1", pb.Critique())
    assert recent.byte_count == 2 * critique.ByteSize()


def test_of_each_name_the_latest_content_is_remembered() -> None:
    first, second = pb.Critique(explanation="first"), pb.Critique(explanation="second")
    recent = RecentCritiques(max_bytes=1000)
    recent.keep("a", b"1", first)
    assert recent.find("a", b"2") is None
    recent.keep("a", b"2", second)
    assert (recent.find("a", b"1"), recent.find("a", b"2")) == (None, second)
    assert recent.byte_count == second.ByteSize()


@dataclass
class Prepared:
    """What a critic might keep."""

    planes: tuple[NDArray[np.float32], list[NDArray[np.uint8]]]
    again: NDArray[np.float32]
    words: str = "no array"


def test_what_a_critic_prepared_counts_with_every_array_once() -> None:
    plane = np.zeros(100, np.float32)
    assert held_byte_count(Prepared((plane, [np.zeros(7, np.uint8)]), plane)) == 407
    assert held_byte_count({"a": plane}, {id(plane)}) == 0
    assert held_byte_count(None) == 0
