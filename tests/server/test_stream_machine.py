"""A stream under any order of messages: every candidate gets one answer, and the totals say how many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from editcritic.server.session import CritiqueSession
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ProtocolError
from editcritic.v1.images import raw_image
from tests.server.fuzz_targets import LIMITS, InstantEdit

IMAGE = raw_image(np.zeros((8, 8), np.uint8))
SETTINGS = ServerSettings(critics=("dummy",), images=LIMITS, max_pending=4)
NAMES = st.sampled_from(["a", "b", "c", "not a name"])


class HeldEdit(InstantEdit):
    """Judges when the machine lets it, so that there is something to drop."""

    def __init__(self, edit: pb.Edit, gate: asyncio.Event) -> None:
        super().__init__(edit)
        self.gate = gate

    async def critique(self, candidate: pb.Candidate, *args: Any, **options: Any) -> pb.Critique:
        await self.gate.wait()
        return await super().critique(candidate, *args, **options)


class StreamMachine(RuleBasedStateMachine):
    """A client that may say anything at any time, and keeps count of what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self._begin()

    def _begin(self) -> None:
        self.gate = asyncio.Event()
        self.sent: asyncio.Queue[pb.CritiqueStreamRequest] = asyncio.Queue()
        self.answers: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.credit = 0
        self.is_open = self.is_over = False
        self.closed: pb.EditClosed | None = None
        self.error: BaseException | None = None
        session = CritiqueSession(self._requests(), self._open, SETTINGS)
        self.reader = self.loop.create_task(self._read(session))

    async def _requests(self) -> AsyncIterator[pb.CritiqueStreamRequest]:
        while True:
            yield await self.sent.get()

    async def _open(self, opening: pb.OpenEdit) -> Any:
        return HeldEdit(opening.edit, self.gate)

    async def _read(self, session: CritiqueSession) -> None:
        try:
            async for event in session.events():
                self._take(event)
        except ProtocolError as error:
            self.error = error

    def _take(self, event: pb.CritiqueStreamResponse) -> None:
        kind = event.WhichOneof("event")
        if kind in ("critique", "candidate_error", "dropped"):
            self.answers[getattr(event, kind).candidate_id] += 1
        elif kind == "opened":
            self.credit += event.opened.credit_count
        elif kind == "credit":
            self.credit += event.credit.count
        elif kind == "closed":
            self.closed = event.closed

    def _say(self, **action: Any) -> None:
        self.sent.put_nowait(pb.CritiqueStreamRequest(**action))
        self.loop.run_until_complete(self._let_it_work())

    @staticmethod
    async def _let_it_work() -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    @precondition(lambda self: self.is_over)
    @rule()
    def call_again(self) -> None:
        self._begin()

    @precondition(lambda self: not self.is_open and not self.is_over)
    @rule()
    def open(self) -> None:
        self._say(open=pb.OpenEdit(edit=pb.Edit()))
        self.is_open = True

    @precondition(lambda self: self.is_open and self.credit > 0)
    @rule(name=NAMES, has_image=st.booleans(), fraction=st.sampled_from([None, 0.5]))
    def candidate(self, name: str, has_image: bool, fraction: float | None) -> None:
        candidate = pb.Candidate(candidate_id=name, image=IMAGE if has_image else None)
        self.credit -= 1
        self.asked[name] += 1
        if fraction is None:
            self._say(candidate=candidate)
        else:
            progress = pb.DenoisingProgress(fraction=fraction)
            self._say(preview=pb.Preview(candidate=candidate, progress=progress))

    @precondition(lambda self: self.is_open)
    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        self._say(cancel_candidate=pb.CancelCandidate(candidate_id=name))

    @precondition(lambda self: self.is_open)
    @rule()
    def answer(self) -> None:
        self.gate.set()
        self.loop.run_until_complete(self._let_it_work())
        self.gate.clear()

    @precondition(lambda self: self.is_open)
    @rule()
    def finish(self) -> None:
        self.gate.set()
        self._say(finish=pb.FinishEdit())
        self.loop.run_until_complete(asyncio.wait_for(self.reader, 20))
        assert self.closed is not None
        assert self.answers == self.asked
        counts = self.closed.critique_count, self.closed.error_count, self.closed.dropped_count
        assert sum(counts) == self.asked.total()
        self.is_open, self.is_over = False, True

    @precondition(lambda self: not self.is_over)
    @rule(what=st.sampled_from(["open", "nothing", "early"]))
    def misbehave(self, what: str) -> None:
        if what == "open" and not self.is_open:
            return
        if what == "early" and self.is_open:
            return
        early = {"cancel_candidate": pb.CancelCandidate(candidate_id="a")}
        self._say(**{"open": {"open": pb.OpenEdit(edit=pb.Edit())}, "nothing": {}, "early": early}[what])
        self.loop.run_until_complete(asyncio.wait_for(self.reader, 20))
        assert isinstance(self.error, ProtocolError)
        assert self.error.reason == pb.ERROR_REASON_STREAM_PROTOCOL
        self.is_open, self.is_over = False, True

    @invariant()
    def nobody_is_answered_more_than_asked(self) -> None:
        assert not self.answers - self.asked

    @invariant()
    def credit_never_exceeds_the_window(self) -> None:
        assert 0 <= self.credit <= SETTINGS.max_pending

    def teardown(self) -> None:
        self.reader.cancel()
        self.loop.run_until_complete(asyncio.gather(self.reader, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        # What was cancelled gets to know it.
        self.loop.run_until_complete(self._let_it_work())
        self.loop.close()


TestStreamMachine = StreamMachine.TestCase
TestStreamMachine.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
