"""The log of calls: one line for each, with who and how, and never with what was sent."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.critics.base import CritiqueTask, Outcome
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.logs import CALL_FIELDS, set_up_logging
from editcritic.v1 import critic_pb2 as pb
from tests.server.speaking import Stream, refusal

SECRET = "a-long-random-token"
PROMPT = "a very private prompt"


class Log(io.StringIO):
    def calls(self) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.getvalue().splitlines()]
        return [entry for entry in entries if entry["logger"] == "editcritic.server.calls"]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Log]:
    """What the server writes to stderr, its own lines at every level, as JSON unless the test says otherwise."""
    written = Log()
    monkeypatch.setattr("sys.stderr", written)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    set_up_logging(getattr(request, "param", "json"))
    root.setLevel(logging.INFO)
    logging.getLogger("editcritic").setLevel(logging.DEBUG)
    yield written
    logging.getLogger("editcritic").setLevel(logging.NOTSET)
    root.handlers[:] = before
    root.setLevel(level)


async def ended(log: Log, count: int) -> list[dict[str, Any]]:
    """The lines of calls, once there are so many; a call's line is written a moment after its answer."""
    while len(log.calls()) < count:
        await asyncio.sleep(0.01)
    return log.calls()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"studio {SECRET} score\n")
    path.chmod(0o600)
    return path


async def test_each_call_is_one_line_with_its_caller_method_status_and_duration(
    log: Log, serving: Any, tokens: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    mine = (("authorization", f"Bearer {SECRET}"),)
    async with serving(tokens_path=tokens) as (_, stub):
        await stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate()), metadata=mine)
        await refusal(stub.Critique(pb.CritiqueRequest(edit=edit), metadata=mine))
        await refusal(stub.ListCritics(pb.ListCriticsRequest()))
        stream = Stream(stub.CritiqueStream(metadata=mine))
        await stream.open(edit)
        await stream.finish()
        lines = await ended(log, 4)
    told = [(line["caller"], line["method"], line["status"], line.get("reason")) for line in lines]
    assert told == [
        ("studio", "CriticService/Critique", "OK", None),
        ("studio", "CriticService/Critique", "INVALID_ARGUMENT", "FIELD_MISSING"),
        ("anonymous", "CriticService/ListCritics", "UNAUTHENTICATED", "UNAUTHENTICATED"),
        ("studio", "CriticService/CritiqueStream", "OK", None),
    ]
    assert len({line["call_id"] for line in lines}) == 4
    assert all(line["duration_ms"] >= 0 for line in lines)


class Held(DummyCritic):
    """Judges once nobody waits any more."""

    began = threading.Event()

    def critique(self, tasks: Any, is_cancelled: Any) -> list[Outcome]:
        self.began.set()
        while not is_cancelled():
            time.sleep(0.01)
        return super().critique(tasks, is_cancelled)


async def test_a_call_that_its_client_cancels_is_told_as_that(
    log: Log, serving: Any, offer: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving(critics=(offer(Held),)) as (_, stub):
        call = stub.Critique(pb.CritiqueRequest(edit=edit, candidate=make_candidate()))
        await asyncio.to_thread(Held.began.wait, 20)
        call.cancel()
        assert [line["status"] for line in await ended(log, 1)] == ["CANCELLED"]


class Failing(DummyCritic):
    def critique(self, tasks: Any, is_cancelled: Any) -> list[Outcome]:
        return [self._fail(task) for task in tasks]

    def _fail(self, task: CritiqueTask) -> Outcome:
        raise RuntimeError("the critic broke")


@pytest.mark.parametrize("log", ["json", "text"], indirect=True)
async def test_neither_pictures_nor_prompts_nor_tokens_are_logged(
    log: Log,
    serving: Any,
    offer: Any,
    tokens: Path,
    edit: pb.Edit,
    make_candidate: Callable[..., pb.Candidate],
) -> None:
    edit.prompt = edit.negative_prompt = PROMPT
    mine = (("authorization", f"Bearer {SECRET}"),)
    async with serving(tokens_path=tokens, critics=("dummy", offer(Failing))) as (_, stub):
        for critic in ("dummy", "Failing", "unknown"):
            request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("private-id"))
            request.options.critic = critic
            call = stub.Critique(request, metadata=mine)
            await (call if critic == "dummy" else refusal(call))
    text = log.getvalue()
    assert "incident" in text
    assert text.count("CriticService/Critique") >= 3
    for private in (PROMPT, SECRET, "private-id", "PNG", "IHDR"):
        assert private not in text


async def test_lines_on_the_way_of_a_call_carry_its_name(log: Log, serving: Any, edit: pb.Edit) -> None:
    from editcritic.server.critic_service import CriticService

    async def broken(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CriticService, "ListCritics", broken)
        async with serving() as (_, stub):
            await refusal(stub.ListCritics(pb.ListCriticsRequest()))
            (line,) = await ended(log, 1)
    incidents = [json.loads(each) for each in log.getvalue().splitlines() if "incident" in each]
    assert [each["call_id"] for each in incidents] == [line["call_id"]]
    assert set(line) <= {"time", "level", "logger", "message", *CALL_FIELDS}
