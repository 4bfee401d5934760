"""Nobody takes all: turns by weight, room by share, and the order in which candidates are judged."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from editcritic.server.admission import Admission, Party, StreamLimit
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.fairness import FairLimit, FairShare
from editcritic.server.queueing import Ticket, TicketQueue
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Overloaded

ANNA, BERT = Party(connection="anna"), Party(connection="bert")
PIXELS = np.zeros((4, 4, 3), np.uint8)
EDIT = DecodedEdit("e", PIXELS, np.ones((4, 4), np.float32))


def taken_turns(share: FairShare[str], waiting: str, count: int) -> str:
    turns = ""
    for _ in range(count):
        turns += share.choose(waiting)
        share.charge(turns[-1], 1.0)
    return turns


def test_turns_go_by_weight() -> None:
    turns = taken_turns(FairShare(lambda key: {"a": 3.0, "b": 1.0}[key]), "ab", 400)
    assert Counter(turns) == {"a": 300, "b": 100}
    assert "bb" not in turns


def test_a_pause_is_no_credit() -> None:
    share: FairShare[str] = FairShare()
    taken_turns(share, "a", 1000)
    turns = taken_turns(share, "ab", 10)
    assert Counter(turns) == {"a": 5, "b": 5}


def test_turns_of_many_who_come_once_are_forgotten() -> None:
    share: FairShare[int] = FairShare()
    for caller in range(20_000):
        share.charge(share.choose([caller]), 1.0)
    assert len(share._given) < 10_000


def test_one_caller_never_takes_all_and_another_always_finds_room() -> None:
    limit: FairLimit[str] = FairLimit(100)
    while limit.fits("greedy", 1):
        limit.take("greedy", 1)
    assert limit.used == 75
    while limit.fits("second", 1):
        limit.take("second", 1)
    assert 90 < limit.used < 100
    assert limit.fits("third", 1)


def test_a_limit_of_one_admits_one() -> None:
    limit: FairLimit[str] = FairLimit(1)
    assert limit.fits("a", 1)
    limit.take("a", 1)
    assert not limit.fits("b", 1)
    limit.give_back("a", 1)
    assert limit.fits("b", 1)


def test_room_is_taken_whole_or_not_at_all() -> None:
    admission = Admission(max_count=8, max_bytes=100)
    admission.reserve(1, 60, ANNA)
    for count, byte_count in ((1, 60), (9, 1)):
        with pytest.raises(Overloaded) as refused:
            admission.reserve(count, byte_count, BERT)
        assert refused.value.retry_after_s
        assert (admission.count, admission.byte_count) == (1, 60)
    with admission.room(1, 40, BERT):
        assert (admission.count, admission.byte_count) == (2, 100)
    admission.release(1, 60, ANNA)
    assert (admission.count, admission.byte_count) == (0, 0)


def test_one_client_that_floods_leaves_room_for_others() -> None:
    admission, streams = Admission(max_count=100, max_bytes=10**6), StreamLimit(100)
    for _ in range(75):
        admission.reserve(1, 1, ANNA)
        streams.enter(ANNA)
    with pytest.raises(Overloaded):
        admission.reserve(1, 1, ANNA)
    with pytest.raises(Overloaded):
        streams.enter(ANNA)
    admission.reserve(1, 1, BERT)
    streams.enter(BERT)


def ticket(
    name: str, caller: Party = ANNA, priority: pb.Priority.ValueType = pb.PRIORITY_UNSPECIFIED
) -> Ticket:
    options = pb.CritiqueOptions(priority=priority)
    return Ticket(CritiqueTask(EDIT, None, DecodedCandidate(name, PIXELS), options), caller)


def order(queue: TicketQueue) -> list[str]:
    names = []
    while (each := queue.take()) is not None:
        names.append(each.task.candidate.candidate_id)
    return names


async def test_callers_take_turns_however_much_one_of_them_has_waiting() -> None:
    queue = TicketQueue()
    for number in range(5):
        queue.add(ticket(f"a{number}", ANNA))
    queue.add(ticket("b0", BERT))
    queue.add(ticket("b1", BERT))
    assert order(queue) == ["a0", "b0", "a1", "b1", "a2", "a3", "a4"]


async def test_interactive_goes_before_bulk_and_bulk_never_starves() -> None:
    queue = TicketQueue()
    for number in range(90):
        queue.add(ticket(f"bulk{number}", priority=pb.PRIORITY_BULK))
        queue.add(ticket(f"now{number}"))
    first = order(queue)[:90]
    assert first[0] == "now0"
    assert sum(name.startswith("bulk") for name in first) == 10
    assert all(any(name.startswith("bulk") for name in first[at : at + 9]) for at in range(0, 81, 9))


async def test_what_is_taken_out_is_not_handed_over() -> None:
    queue = TicketQueue()
    tickets = [ticket(name) for name in "abc"]
    for each in tickets:
        queue.add(each)
    queue.discard(tickets[1])
    queue.discard(tickets[1])
    assert len(queue) == 2
    assert order(queue) == ["a", "c"]
    assert len(queue) == 0
