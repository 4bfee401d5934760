"""Streams: an edit is opened once, and candidates are judged while they are produced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import error_from_status
from tests.server.conformance.staged import Stage
from tests.server.speaking import Stream, as_error, kinds, refusal, wait_until

MakeCandidate = Callable[..., pb.Candidate]


async def test_every_candidate_is_answered_and_then_the_stream_closes(
    streaming: Callable[[], Stream], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stream = streaming()
    opened = await stream.open(edit)
    assert opened.credit_count == opened.limits.max_pending_per_stream
    assert opened.critic.name == "dummy"
    assert opened.edit_id
    for number in range(5):
        await stream.send(candidate=make_candidate(f"c{number}", number * 50))
    events = await stream.finish()
    assert sorted(event.critique.candidate_id for event in events[:-1]) == ["c0", "c1", "c2", "c3", "c4"]
    assert events[-1].closed == pb.EditClosed(critique_count=5)
    assert await stream.call.code() == grpc.StatusCode.OK


async def test_a_preview_comes_back_with_its_progress(
    streaming: Callable[[], Stream], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stream = streaming()
    await stream.open(edit)
    await stream.preview(make_candidate("c", 99), 0.4)
    assert (await stream.next()).critique.progress.fraction == pytest.approx(0.4)
    await stream.send(candidate=make_candidate("c", 99))
    assert not (await stream.next()).critique.HasField("progress")


async def test_the_stream_and_the_call_give_the_same_numbers(
    stub: Any, streaming: Callable[[], Stream], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    candidate = make_candidate("c", 123)
    alone = (await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=candidate))).critique
    stream = streaming()
    await stream.open(edit)
    await stream.send(candidate=candidate)
    assert (await stream.next()).critique.scores == alone.scores


async def test_a_bad_candidate_fails_alone_and_may_be_sent_again(
    streaming: Callable[[], Stream], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stream = streaming()
    await stream.open(edit)
    await stream.send(candidate=pb.Candidate(candidate_id="c", image=pb.Image()))
    failed = (await stream.next()).candidate_error
    assert failed.candidate_id == "c"
    assert error_from_status(failed.status).reason == pb.ERROR_REASON_FIELD_MISSING
    await stream.send(candidate=make_candidate("c"))
    assert (await stream.next()).critique.candidate_id == "c"


async def test_a_candidate_is_judged_once(
    streaming: Callable[[], Stream], edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stream = streaming()
    await stream.open(edit)
    for _ in range(2):
        await stream.send(candidate=make_candidate("twin"))
    events = await stream.finish()
    assert sorted(map(str, kinds(events))) == ["candidate_error", "closed", "critique"]
    error = next(event.candidate_error for event in events if event.HasField("candidate_error"))
    assert error_from_status(error.status).reason == pb.ERROR_REASON_CANDIDATE_EXISTS


async def test_a_newer_preview_replaces_one_that_still_waits(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        await stream.send(candidate=make_candidate("busy"))
        await wait_until(lambda: stage.asked == ["busy"])
        await stream.preview(make_candidate("c"), 0.2)
        await stream.preview(make_candidate("c"), 0.4)
        dropped = (await stream.next()).dropped
        assert dropped.progress.fraction == pytest.approx(0.2)
        assert dropped.reason == pb.DROP_REASON_SUPERSEDED
        stage.open()
        await stream.finish()
    assert stage.asked == ["busy", "c@0.4"]


async def test_a_cancelled_candidate_is_dropped_and_its_name_is_free(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        await stream.send(candidate=make_candidate("c"))
        await wait_until(lambda: stage.asked == ["c"])
        await stream.send(cancel_candidate=pb.CancelCandidate(candidate_id="c"))
        assert (await stream.next()).dropped.reason == pb.DROP_REASON_CANCELLED
        await wait_until(stage.was_cancelled)
        stage.open()
        await stream.send(candidate=make_candidate("c"))
        assert (await stream.next()).critique.candidate_id == "c"


@pytest.mark.parametrize("how", ["cancel", "end of input"])
async def test_work_of_a_client_that_left_is_freed(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate, how: str
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1) as (server, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        await stream.send(candidate=make_candidate("running"))
        await wait_until(lambda: stage.asked == ["running"])
        for name in "abc":
            await stream.send(candidate=make_candidate(name))
        await wait_until(lambda: server._hosts.admission.count == 4)
        if how == "cancel":
            stream.call.cancel()
        else:
            await stream.call.done_writing()
        await wait_until(stage.was_cancelled)
        admission = server._hosts.admission
        await wait_until(lambda: (admission.count, admission.byte_count) == (0, 0))
        stage.open()
    assert stage.asked == ["running"]


async def test_an_end_without_finish_is_told_to_those_who_still_listen(
    streaming: Callable[[], Stream], edit: pb.Edit
) -> None:
    stream = streaming()
    await stream.open(edit)
    await stream.call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await stream.call.read()
    assert as_error(ended.value).reason == pb.ERROR_REASON_STREAM_PROTOCOL


async def test_credit_comes_back_as_answers_are_read(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving(max_pending=4) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        credit = (await stream.open(edit)).credit_count
        sent = judged = 0
        while judged < 20:
            while credit and sent < 20:
                await stream.send(candidate=make_candidate(f"c{sent}"))
                sent, credit = sent + 1, credit - 1
            event = await stream.next()
            judged += event.HasField("critique")
            credit += event.credit.count
        assert (await stream.finish())[-1].closed.critique_count == 20


async def test_a_full_server_drops_previews_and_refuses_candidates_with_a_time_to_retry(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    stage.close()
    async with serving(critics=("staged",), workers=1, max_queued=1) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        await stream.send(candidate=make_candidate("first"))
        await wait_until(lambda: stage.asked == ["first"])
        await stream.preview(make_candidate("second"), 0.5)
        assert (await stream.next()).dropped.reason == pb.DROP_REASON_OVERLOAD
        await stream.send(candidate=make_candidate("third"))
        error = error_from_status((await stream.next()).candidate_error.status)
        assert error.reason == pb.ERROR_REASON_QUEUE_FULL
        assert error.retry_after_s
        stage.open()


PROTOCOL_BREAKS: dict[str, list[str]] = {
    "a candidate before open": ["candidate"],
    "finish before open": ["finish"],
    "an empty message": ["nothing"],
    "an empty message after open": ["open", "nothing"],
    "a second open": ["open", "open"],
    "more than the credit": ["open", *["candidate"] * 5],
}


@pytest.mark.parametrize("actions", PROTOCOL_BREAKS.values(), ids=PROTOCOL_BREAKS.keys())
async def test_a_message_out_of_turn_ends_the_stream(
    serving: Any, stage: Stage, edit: pb.Edit, make_candidate: MakeCandidate, actions: list[str]
) -> None:
    messages = {
        "open": lambda number: pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit)),
        "candidate": lambda number: pb.CritiqueStreamRequest(candidate=make_candidate(f"c{number}")),
        "finish": lambda number: pb.CritiqueStreamRequest(finish=pb.FinishEdit()),
        "nothing": lambda number: pb.CritiqueStreamRequest(),
    }
    stage.close()
    async with serving(critics=("staged",), max_pending=4) as (_, stub):
        call = stub.CritiqueStream()
        for number, action in enumerate(actions):
            await call.write(messages[action](number))
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in call:
                pass
        stage.open()
    assert ended.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert as_error(ended.value).reason == pb.ERROR_REASON_STREAM_PROTOCOL


async def test_a_newer_client_is_told_the_servers_revision(stub: Any, edit: pb.Edit) -> None:
    call = stub.CritiqueStream()
    await call.write(pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit, protocol_revision=99)))
    error = await refusal(call.read())
    assert error.reason == pb.ERROR_REASON_UNSUPPORTED_PROTOCOL
    assert error.metadata == {"server_revision": "1"}


async def test_too_many_streams_are_refused_and_a_closed_one_gives_its_place_back(
    serving: Any, edit: pb.Edit
) -> None:
    async with serving(max_streams=1) as (_, stub):
        first = Stream(stub.CritiqueStream())
        await first.open(edit)
        error = await refusal(stub.CritiqueStream().read())
        assert error.reason == pb.ERROR_REASON_TOO_MANY_STREAMS
        await first.finish()
        assert (await Stream(stub.CritiqueStream()).open(edit)).edit_id


async def test_an_idle_stream_is_closed(serving: Any, edit: pb.Edit) -> None:
    async with serving(idle_timeout_s=0.5) as (_, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        assert (await refusal(stream.call.read())).reason == pb.ERROR_REASON_STREAM_IDLE


async def test_a_stopping_server_says_so_on_open_streams_and_finishes_them(
    serving: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    async with serving() as (server, stub):
        stream = Stream(stub.CritiqueStream())
        await stream.open(edit)
        stopping = asyncio.create_task(server.stop(grace_s=5.0))
        assert (await stream.next()).going_away.grace_ms == 5000
        await stream.send(candidate=make_candidate("last"))
        assert kinds(await stream.finish()) == ["critique", "closed"]
        await stopping
