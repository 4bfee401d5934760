"""Critics that come and go while the server runs: warmed before their first edit, let go after their last."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import numpy as np

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.executors.memory import free_device_memory
from editcritic.server.queueing import Ticket
from editcritic.v1.errors import InvalidInput

if TYPE_CHECKING:
    from editcritic.server.hosting import CriticHost

__all__ = ["first_edit", "retire", "warm_up"]

_SIDE = 256
_LOOK_EVERY_S = 0.05


async def warm_up(host: CriticHost) -> None:
    """Have a critic judge an edit of our own, so that the first one of a caller finds everything loaded and compiled.

    Raises:
        EditCriticError: it failed on it. An edit that it refuses as not to its liking is no failure.
    """
    edit, candidate = first_edit()
    try:
        prepared = await host.batcher.prepare(edit)
        await host.batcher.submit(Ticket(CritiqueTask(edit, prepared, candidate)))
    except InvalidInput:
        pass


async def retire(host: CriticHost) -> None:
    """Wait until the last edit of a critic is closed, then let go of it and of its memory."""
    while host.edits or not host.batcher.is_idle:
        await asyncio.sleep(_LOOK_EVERY_S)
    await host.close()
    await host.let_go()
    # Models hold cycles, and gigabytes; they are not to wait for the collector's own time.
    await asyncio.to_thread(_free)


def _free() -> None:
    gc.collect()
    free_device_memory()


def first_edit() -> tuple[DecodedEdit, DecodedCandidate]:
    """A small edit of the server's own and a candidate for it, to warm a critic with."""
    noise = np.random.default_rng(0).normal(0, 6, (_SIDE, _SIDE, 3))
    source = np.clip(np.linspace(60, 190, _SIDE)[None, :, None] + noise, 0, 255).astype(np.uint8)
    mask = np.zeros((_SIDE, _SIDE), np.float32)
    mask[96:160, 96:160] = 1.0
    picture = np.where(mask[..., None] > 0.5, np.uint8(128), source)
    return DecodedEdit("warm-up", source, mask, prompt="a red ball"), DecodedCandidate("warm-up", picture)
