"""Runs a critic in threads of this process, and can let go of its model and load it again."""

from __future__ import annotations

import asyncio
import gc
import logging
import uuid
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as ThreadPool
from dataclasses import dataclass, replace
from typing import Any

from editcritic.server.critics import critic_name, load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.device import Devices
from editcritic.server.executors.hosted import Vitals
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.executors.memory import free_device_memory, held_byte_count
from editcritic.server.executors.waiting import turn
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, ServerUnavailable

__all__ = ["PreparedEdit", "UnloadingExecutor"]

_log = logging.getLogger(__name__)
RETRY_S = 5.0


@dataclass(eq=False)
class PreparedEdit:
    """What a critic made of an edit, as long as its model is in memory.

    Attributes:
        edit: to prepare it again.
        value: what it made.
        load: which load of the model made it.
        nbytes: memory that it takes.
    """

    edit: DecodedEdit
    value: Any = None
    load: int = 0
    nbytes: int = 0


class UnloadingExecutor:
    """A critic whose model comes and goes; see `HostedExecutor` for what it is asked.

    Args:
        spec: the critic's full name.
        pool_of: a device's name to the threads that judge on it.
        devices: where it takes its turns.

    Attributes:
        info: of the critic, once started.
        vitals: for metrics.
        on_health: never told anything: a critic that could not be woken is tried again with the next edit.
    """

    def __init__(self, spec: str, pool_of: Callable[[str], ThreadPool], devices: Devices) -> None:
        self._spec, self._pool_of, self._devices = spec, pool_of, devices
        self.info = pb.CriticInfo()
        self.vitals = Vitals()
        self.on_health: Callable[[bool], None] = lambda _is_ready: None
        self._local: LocalExecutor | None = None
        self._load = 0
        self._prepared: weakref.WeakSet[PreparedEdit] = weakref.WeakSet()

    async def start(self) -> None:
        """Load the model.

        Raises:
            EditCriticError: it cannot be loaded.
        """
        critic = await asyncio.to_thread(load_critic, self._spec)
        self.info.CopyFrom(critic.info)
        self.info.state = pb.CRITIC_STATE_AWAKE
        self._local = LocalExecutor(critic, self._pool_of(self.info.device))
        self._load += 1

    async def wake(self) -> None:
        """Load the model again.

        Raises:
            ServerUnavailable: it cannot be loaded now.
        """
        self.info.state = pb.CRITIC_STATE_WAKING
        try:
            await self.start()
        except Exception as error:
            self.info.state = pb.CRITIC_STATE_ASLEEP
            incident = uuid.uuid4().hex[:12]
            _log.exception("incident %s: the critic %s could not be woken", incident, self._spec)
            raise ServerUnavailable(
                f"the critic {critic_name(self._spec)!r} could not be loaded again (incident {incident}).",
                reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE,
                metadata={"incident": incident},
                retry_after_s=RETRY_S,
            ) from error

    async def sleep(self) -> None:
        """Let go of the model; what it prepared is prepared again when it is needed."""
        await self.close()
        self.info.state = pb.CRITIC_STATE_ASLEEP

    async def close(self) -> None:
        """Let go of the model for good. Safe to call twice."""
        self._local = None
        for prepared in self._prepared:
            # It may lie on the device, or hold the model.
            prepared.value, prepared.load = None, 0
        # Models hold cycles, and gigabytes; they are not to wait for the collector's own time.
        await asyncio.to_thread(gc.collect)
        free_device_memory()

    async def prepare(self, edit: DecodedEdit) -> PreparedEdit:
        """`Critic.prepare` on a thread.

        Raises:
            EditCriticError: the critic refuses the edit, or failed on it.
        """
        prepared = PreparedEdit(edit)
        self._prepared.add(prepared)
        async with turn(self._devices.device(self.info.device), "prepare"):
            await self._make_ready(prepared, self._awake())
        return prepared

    async def critique(
        self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        """`Critic.critique` on a thread; what fails becomes that task's outcome and never raises."""
        refused: dict[int, EditCriticError] = {}
        async with turn(self._devices.device(self.info.device), "judge"):
            local = self._awake()
            for number, task in enumerate(tasks):
                try:
                    await self._make_ready(task.prepared, local)
                except EditCriticError as error:
                    refused[number] = error
            ready = [
                replace(task, prepared=task.prepared.value)
                for number, task in enumerate(tasks)
                if number not in refused
            ]
            outcomes = iter(await local.critique(ready, is_cancelled) if ready else [])
        return [refused.get(number) or next(outcomes) for number in range(len(tasks))]

    async def _make_ready(self, prepared: PreparedEdit, local: LocalExecutor) -> None:
        if prepared.load != self._load:
            prepared.value = await local.prepare(prepared.edit)
            prepared.load = self._load
            whole = prepared.edit
            arrays = {id(each) for each in (whole.source, whole.denoise_mask, whole.blend_mask)}
            prepared.nbytes = held_byte_count(prepared.value, arrays)

    def _awake(self) -> LocalExecutor:
        if self._local is None:
            raise ServerUnavailable("the critic is asleep.", reason=pb.ERROR_REASON_CRITIC_UNAVAILABLE)
        return self._local
