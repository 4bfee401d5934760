"""The check for critics of one's own: it passes ours, and names each promise that a critic breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedEdit
from editcritic.server.critics.conformance import check_critic
from editcritic.server.critics.dummy import DummyCritic
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled


@pytest.mark.parametrize("name", ["dummy", "evidence", "network", "ensemble"])
def test_our_own_critics_pass(name: str) -> None:
    assert check_critic(load_critic(name)) == []


class Broken(DummyCritic):
    """The dummy with one promise broken."""

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Any]:
        return self.broken(list(super().critique(tasks, is_cancelled)), tasks)

    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        return outcomes


class Fewer(Broken):
    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        return outcomes[1:]


class Raises(Broken):
    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        raise KeyError("weights")


class BeyondAHundred(Broken):
    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        for outcome in outcomes:
            if isinstance(outcome, pb.Critique):
                outcome.scores.harmony.value = 101
        return outcomes


class LooksAtTheBatch(Broken):
    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        for outcome in outcomes:
            if isinstance(outcome, pb.Critique):
                outcome.scores.overall.value = len(tasks)
        return outcomes


class Nameless(Broken):
    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        for outcome in outcomes:
            if isinstance(outcome, pb.Critique):
                outcome.critic.Clear()
        return outcomes


class RaisesWhenCancelled(Broken):
    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Any]:
        if is_cancelled():
            raise Cancelled("nobody waits")
        return super().critique(tasks, is_cancelled)


class Paints(Broken):
    def prepare(self, edit: DecodedEdit) -> None:
        edit.source[0, 0] = 0


class BarePreviews(Broken):
    def broken(self, outcomes: list[Any], tasks: Sequence[CritiqueTask]) -> list[Any]:
        is_preview = tasks[0].candidate.progress is not None
        return [{"score": 50.0}] * len(outcomes) if is_preview else outcomes


@pytest.mark.parametrize(
    ("critic", "told"),
    [
        (Fewer, "3 outcomes for 4 tasks"),
        (Raises, "critique raised KeyError: 'weights'"),
        (BeyondAHundred, "the scores of 'c1' are unsound"),
        (LooksAtTheBatch, "'c1' has other scores alone than in a batch"),
        (Nameless, "does not name the critic"),
        (RaisesWhenCancelled, "cancelled: critique raised Cancelled"),
        (Paints, "prepare raised ValueError"),
        (BarePreviews, "previews: an outcome is a dict"),
    ],
)
def test_a_broken_promise_is_named(critic: type[Broken], told: str) -> None:
    assert told in " / ".join(check_critic(critic()))


def test_a_critic_says_who_it_is() -> None:
    class Anonymous(DummyCritic):
        @property
        def info(self) -> pb.CriticInfo:
            return pb.CriticInfo()

    found = check_critic(Anonymous())
    assert {"info.identity.name is empty", "info.identity.version is empty"} <= set(found)
    assert any("dimensions" in each for each in found)
