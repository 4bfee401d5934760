"""A replica: one process of Ray Serve that holds a critic and judges for any number of fronts.

It keeps nothing that could not be made again: what was prepared of an edit is prepared anew where it is missing. So any
replica can take any batch, and a batch whose replica died can go to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import Critic, CritiqueTask, DecodedEdit, Outcome
from editcritic.server.executors.local import LocalExecutor
from editcritic.server.executors.memory import held_byte_count
from editcritic.server.executors.ray_wire import Reply, SentTask, told
from editcritic.server.reloading import first_edit
from editcritic.v1.errors import EditCriticError

__all__ = ["CriticReplica"]


@dataclass(frozen=True, eq=False)
class _Opened:
    """An edit, and what the critic made of it."""

    edit: DecodedEdit
    prepared: Any
    byte_count: int


class CriticReplica:
    """One critic in this process; wrapped into a Serve deployment by `ray_cluster`.

    Args:
        spec: the critic's full name.
        max_prepared_bytes: of edits that are kept prepared; the least recently used goes first.
        warm_up: judge a small edit before the first caller's.
        stuck_after_s: a call into the critic that lasts longer has hung.
        fingerprint: of the settings that it was deployed with.

    Raises:
        EditCriticError: the critic cannot be loaded; Serve tries again, then gives up.
    """

    def __init__(
        self, spec: str, max_prepared_bytes: int, warm_up: bool, stuck_after_s: float, fingerprint: str
    ) -> None:
        self._critic = load_critic(spec)
        self._max_bytes, self._fingerprint = max_prepared_bytes, fingerprint
        self._stuck_after_s, self._probed = stuck_after_s, 0.0
        self._probe: Future[None] | None = None
        # One call at a time, which has the cores or the GPU that were set aside for this process to itself.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="critic")
        self._executor = LocalExecutor(self._critic, self._pool)
        self._edits: OrderedDict[str, asyncio.Future[_Opened]] = OrderedDict()
        if warm_up:
            _warm_up(self._critic)

    async def description(self) -> tuple[bytes, str]:
        """The critic's `CriticInfo`, serialized, and the fingerprint of the deployment."""
        info: bytes = self._critic.info.SerializeToString()
        return info, self._fingerprint

    async def check_health(self) -> None:
        """Asked by Serve, which replaces the replica when this raises.

        Raises:
            RuntimeError: a call has hung; a thread cannot be stopped, a process can.
        """
        if self._probe is None or self._probe.done():
            self._probe, self._probed = self._pool.submit(_nothing), time.monotonic()
        elif time.monotonic() - self._probed > self._stuck_after_s:
            raise RuntimeError(f"the critic has not come back for {self._stuck_after_s:.0f} s")

    async def prepare(self, key: str, held: Sequence[Any]) -> bytes:
        """Prepare an edit of the object store. Empty, or why the critic refuses it as a serialized status."""
        try:
            await self._open(key, held)
        except EditCriticError as error:
            # The package of the status has no types.
            refused: bytes = error.to_status().SerializeToString()
            return refused
        return b""

    async def critique(self, sent: Sequence[SentTask], held: Mapping[str, Sequence[Any]]) -> list[Reply]:
        """Judge a batch; what fails is that task's answer. Cancelling the call tells the critic to stop.

        Args:
            sent: the batch.
            held: a list with the reference to each edit of it, by key; Ray fetches only what is asked for in a list.
        """
        opened = {key: await self._opened(key, each) for key, each in held.items()}
        outcomes: dict[str, Outcome] = {}
        tasks: dict[str, CritiqueTask] = {}
        for each in sent:
            edit = opened[each.edit_key]
            if isinstance(edit, EditCriticError):
                outcomes[each.name] = edit
            else:
                tasks[each.name] = each.task(edit.edit, edit.prepared)
        outcomes |= await self._judged(tasks)
        return [told(each.name, outcomes[each.name]) for each in sent]

    async def _judged(self, tasks: Mapping[str, CritiqueTask]) -> Mapping[str, Outcome]:
        is_cancelled = threading.Event()
        try:
            outcomes = await self._executor.critique(list(tasks.values()), is_cancelled.is_set)
        finally:
            is_cancelled.set()
        return dict(zip(tasks, outcomes, strict=True))

    async def _opened(self, key: str, held: Sequence[Any]) -> _Opened | EditCriticError:
        try:
            return await self._open(key, held)
        except EditCriticError as error:
            return error

    async def _open(self, key: str, held: Sequence[Any]) -> _Opened:
        if key not in self._edits:
            self._edits[key] = asyncio.ensure_future(self._prepared(held))
        self._edits.move_to_end(key)
        # Shielded: one call that is cancelled must not take the edit from the others.
        try:
            opened = await asyncio.shield(self._edits[key])
        except Exception:
            self._edits.pop(key, None)
            raise
        self._evict()
        return opened

    async def _prepared(self, held: Sequence[Any]) -> _Opened:
        edit = _own(await held[0])
        prepared = await self._executor.prepare(edit)
        return _Opened(edit, prepared, edit.byte_count + held_byte_count(prepared))

    def _evict(self) -> None:
        done = {
            key: each.result().byte_count
            for key, each in self._edits.items()
            if each.done() and not each.cancelled() and each.exception() is None
        }
        excess = sum(done.values()) - self._max_bytes
        for key, byte_count in done.items():
            if excess <= 0:
                return
            del self._edits[key]
            excess -= byte_count


def _nothing() -> None:
    pass


def _own(edit: DecodedEdit) -> DecodedEdit:
    """A copy outside of the object store, whose arrays may be written to."""
    blend = None if edit.blend_mask is None else np.array(edit.blend_mask)
    return DecodedEdit(
        edit.edit_id,
        np.array(edit.source),
        np.array(edit.denoise_mask),
        blend,
        edit.prompt,
        edit.negative_prompt,
    )


def _warm_up(critic: Critic) -> None:
    edit, candidate = first_edit()
    # A critic that fails on it is told of by the front, whose own first edit comes next.
    with contextlib.suppress(Exception):
        critic.critique([CritiqueTask(edit, critic.prepare(edit), candidate)], lambda: False)
