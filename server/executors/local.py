"""Runs a critic in threads of this process."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as ThreadPool
from typing import Any

from editcritic.server.critics.base import Critic, CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.scoring import scores_are_sound
from editcritic.server.executors.lost import is_device_lost
from editcritic.server.executors.memory import free_device_memory, is_out_of_memory
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, Overloaded, ServerFault, ServerUnavailable

__all__ = ["LocalExecutor"]

_log = logging.getLogger(__name__)
_RESTART_S = 5.0


class LocalExecutor:
    """Judges on a thread pool, so that the event loop never waits for pixels.

    Args:
        critic: the critic.
        pool: threads to run it on; shared between critics of one device.
        tell_lost: told, on a thread, when the device broke for good.
    """

    def __init__(
        self, critic: Critic, pool: ThreadPool, tell_lost: Callable[[], None] = lambda: None
    ) -> None:
        self._critic = critic
        self._pool = pool
        self._tell_lost = tell_lost
        self._is_lost = False

    async def prepare(self, edit: DecodedEdit) -> Any:
        """`Critic.prepare` on a thread.

        Raises:
            EditCriticError: the critic refuses the edit, or failed on it.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._prepare, edit)

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """`Critic.critique` on a thread; what fails becomes that task's outcome and never raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._critique, tasks, is_cancelled)

    def _prepare(self, edit: DecodedEdit) -> Any:
        if self._is_lost:
            raise _lost()
        try:
            return self._critic.prepare(edit)
        except Exception as error:
            self._note(error)
            raise _as_outcome(error, self._critic) from error

    def _note(self, error: Exception) -> None:
        if is_device_lost(error):
            self._is_lost = True
            self._tell_lost()

    def _critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        if self._is_lost:
            return [_lost() for _ in tasks]
        try:
            return self._checked_all(tasks, self._critic.critique(tasks, is_cancelled))
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            self._note(error)
            # On a device that is lost nobody learns whose fault it was, and trying one by one would tell no more.
            last = len(tasks) == 1 or self._is_lost
            alone: list[Outcome] = [_as_outcome(error, self._critic)] * len(tasks) if last else []
        # Past the handler, because the exception's frames hold the memory that is missing.
        if out_of_memory:
            free_device_memory()
        if alone:
            return alone
        # One candidate that is bad, or too large, must not cost its batch mates their answer.
        parts = _halves(tasks) if out_of_memory else [[task] for task in tasks]
        return [outcome for part in parts for outcome in self._critique(part, is_cancelled)]

    def _checked_all(self, tasks: Sequence[CritiqueTask], outcomes: list[Outcome]) -> list[Outcome]:
        if len(outcomes) != len(tasks):
            _log.error("critic %s gave %d outcomes for %d tasks", self._name, len(outcomes), len(tasks))
            return [_fault(self._critic, _incident()) for _ in tasks]
        return [self._checked(outcome) for outcome in outcomes]

    def _checked(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, EditCriticError) or scores_are_sound(outcome.scores):
            return outcome
        incident = _incident()
        _log.error("incident %s: critic %s gave unsound scores %s", incident, self._name, outcome.scores)
        return _fault(self._critic, incident)

    @property
    def _name(self) -> str:
        return self._critic.info.identity.name


def _halves(tasks: Sequence[CritiqueTask]) -> list[Sequence[CritiqueTask]]:
    return [tasks[: len(tasks) // 2], tasks[len(tasks) // 2 :]]


def _as_outcome(error: Exception, critic: Critic) -> EditCriticError:
    if isinstance(error, EditCriticError):
        return error
    incident = _incident()
    _log.error("incident %s: critic %s failed", incident, critic.info.identity.name, exc_info=error)
    if is_out_of_memory(error):
        return Overloaded(
            "the device ran out of memory on this candidate alone; send a smaller crop.",
            reason=pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY,
            metadata={"incident": incident},
        )
    return _fault(critic, incident)


def _fault(critic: Critic, incident: str) -> ServerFault:
    return ServerFault(
        f"the critic {critic.info.identity.name!r} failed on this candidate (incident {incident}).",
        reason=pb.ERROR_REASON_CRITIC_FAILED,
        metadata={"incident": incident},
    )


def _lost() -> ServerUnavailable:
    return ServerUnavailable(
        "the device broke and the server is stopping; try again once it was started anew.",
        reason=pb.ERROR_REASON_SHUTTING_DOWN,
        retry_after_s=_RESTART_S,
    )


def _incident() -> str:
    return uuid.uuid4().hex[:12]
