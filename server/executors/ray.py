"""Runs a critic in the replicas of a Ray Serve deployment, on this machine or on others."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayActorError, RayError, WorkerCrashedError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.executors.ray_wire import RemoteEdit, SentTask, error_of, understood
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled, EditCriticError, Overloaded, ServerFault, ServerUnavailable

__all__ = ["DIED", "RayExecutor"]

_log = logging.getLogger(__name__)

DIED = (RayActorError, WorkerCrashedError, NodeDiedError, ReplicaUnavailableError)
"""What tells that a replica died, whatever it was asked."""
# A candidate that kills whoever judges it must not go through all replicas.
_LIVES = 3
_PAUSE_S = 0.05
_LOOK_EVERY_S = 0.05
_RETRY_AFTER_S = 1.0


class RayExecutor:
    """Judges through a deployment's handle. A batch whose replica died goes to another, each candidate alone.

    Args:
        handle: of a deployment of `CriticReplica`.
        critic: its name, for messages.
    """

    def __init__(self, handle: Any, critic: str) -> None:
        self._handle, self._critic = handle, critic

    async def description(self) -> tuple[pb.CriticInfo, str]:
        """Who the critic is, as a replica says, and the fingerprint of its deployment.

        Raises:
            EditCriticError: none answers.
        """
        info, fingerprint = await self._ask("description")
        return pb.CriticInfo.FromString(info), fingerprint

    async def prepare(self, edit: DecodedEdit) -> RemoteEdit:
        """Put an edit where all replicas find it, and have one prepare it.

        Raises:
            EditCriticError: the critic refuses the edit, or failed on it.
        """
        shared = await asyncio.to_thread(_put, edit)
        refused = await self._ask("prepare", shared.key, [shared.held])
        if refused:
            raise error_of(refused)
        return shared

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """One outcome for each task, in order; what fails becomes that task's outcome and never raises."""
        return await self._critiqued(tasks, is_cancelled, _LIVES)

    async def _critiqued(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool], lives: int
    ) -> list[Outcome]:
        sent = [SentTask.of(task) for task in tasks]
        held = {task.prepared.key: [task.prepared.held] for task in tasks}
        try:
            outcomes = understood(sent, await self._call(is_cancelled, "critique", sent, held))
        except DIED as error:
            _log.warning("a replica of the critic %s died: %s", self._critic, type(error).__name__)
            return await self._again(tasks, is_cancelled, lives - 1)
        except EditCriticError as error:
            return [error for _ in tasks]
        except Exception as error:
            return [self._fault(error) for _ in tasks]
        return outcomes or [self._fault("its answers belong to other tasks") for _ in tasks]

    async def _again(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool], lives: int
    ) -> list[Outcome]:
        if lives == 0:
            return [self._fault("each replica that judged it died") for _ in tasks]
        if is_cancelled():
            return [_nobody_waits() for _ in tasks]
        await asyncio.sleep(_PAUSE_S)
        parts = [self._critiqued([task], is_cancelled, lives) for task in tasks]
        return [outcome for part in await asyncio.gather(*parts) for outcome in part]

    async def _ask(self, method: str, *args: Any) -> Any:
        """A call that changes nothing, so that it may be made again."""
        for _ in range(_LIVES):
            try:
                return await self._call(_never, method, *args)
            except DIED:
                await asyncio.sleep(_PAUSE_S)
            except (RayError, RayServeException) as error:
                raise self._fault(error) from None
        raise self._fault("each replica that was asked died")

    async def _call(self, is_cancelled: Callable[[], bool], method: str, *args: Any) -> Any:
        response = getattr(self._handle, method).remote(*args)
        answer = asyncio.ensure_future(_answer(response))
        try:
            while not (await asyncio.wait([answer], timeout=_LOOK_EVERY_S))[0]:
                if is_cancelled():
                    raise _nobody_waits()
            return answer.result()
        except BackPressureError:
            raise Overloaded(
                f"all replicas of the critic {self._critic!r} are busy, and enough waits for them; try again.",
                reason=pb.ERROR_REASON_QUEUE_FULL,
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        except DeploymentUnavailableError:
            raise ServerUnavailable(
                f"the critic {self._critic!r} has no replica that could be started; try again later.",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        finally:
            if not answer.done():
                # Told to the replica too, which tells the critic.
                response.cancel()
                answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _fault(self, why: object) -> ServerFault:
        incident = uuid.uuid4().hex[:12]
        _log.error("incident %s: the critic %s behind Ray failed: %s", incident, self._critic, why)
        return ServerFault(
            f"the critic {self._critic!r} failed on this candidate (incident {incident}).",
            reason=pb.ERROR_REASON_CRITIC_FAILED,
            metadata={"incident": incident},
        )


def _nobody_waits() -> Cancelled:
    return Cancelled("nobody waits for this critique any more")


async def _answer(response: Any) -> Any:
    return await response


def _never() -> bool:
    return False


def _put(edit: DecodedEdit) -> RemoteEdit:
    return RemoteEdit(ray.put(replace(edit, edit_id="")), edit.byte_count)
