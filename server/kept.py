"""What the server keeps so that nothing is sent or judged twice: edits by their content, and recent critiques.

Both are bounded in bytes, the least recently used goes first, and neither is shared between tenants: the tenant is a
part of every key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from editcritic.server.admission import NOBODY, Admission, Party
from editcritic.server.batcher import Batcher
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.executors.memory import held_byte_count
from editcritic.v1 import critic_pb2 as pb

__all__ = ["EditStore", "KeptEdit", "RecentCritiques", "critique_key", "edit_sha256"]


def edit_sha256(edit: pb.Edit) -> bytes:
    """SHA-256 of an edit's content, whatever its name."""
    nameless = pb.Edit()
    nameless.CopyFrom(edit)
    nameless.edit_id = ""
    return hashlib.sha256(nameless.SerializeToString(deterministic=True)).digest()


def critique_key(
    edit_key: Sequence[object], candidate: pb.Candidate, progress: pb.DenoisingProgress | None
) -> bytes:
    """SHA-256 of everything that a critique depends on, the names of edit and candidate among it.

    Args:
        edit_key: tenant, edit, critic and options, in words whose `repr` tells them apart.
        candidate: as it came.
        progress: set for a preview.
    """
    told = progress.SerializeToString(deterministic=True) if progress is not None else None
    digest = hashlib.sha256(repr((*edit_key, told)).encode())
    digest.update(candidate.SerializeToString(deterministic=True))
    return digest.digest()


@dataclass(eq=False)
class KeptEdit:
    """An edit in memory: decoded once, prepared once for each critic, however many streams have it open.

    Attributes:
        tenant: who may open it.
        sha256: of its content.
        edit: decoded, without a name.
        prepared: what each critic made of it, or is making.
        byte_count: memory that all of it holds.
        user_count: streams and calls that have it open.
        payer: whose room it takes while it is open, and `reserved` how much.
    """

    tenant: str
    sha256: bytes
    edit: DecodedEdit
    prepared: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    byte_count: int = 0
    user_count: int = 0
    payer: Party = NOBODY
    reserved: int = 0

    def prepare(self, critic: str, batcher: Batcher) -> asyncio.Future[Any]:
        """What a critic (by `CriticHost.key`) makes of it, begun when first asked for; a failed one is tried again."""
        known = self.prepared.get(critic)
        if known is None or (known.done() and (known.cancelled() or known.exception() is not None)):
            known = self.prepared[critic] = asyncio.ensure_future(batcher.prepare(self.edit))
            known.add_done_callback(self._count)
        return known

    def forget(self, critic: str) -> None:
        """Let go of what a critic made of it."""
        done = self.prepared.pop(critic, None)
        if done is not None and done.done():
            self.byte_count -= self._held(done)

    def _count(self, done: asyncio.Future[Any]) -> None:
        self.byte_count += self._held(done)

    def _held(self, done: asyncio.Future[Any]) -> int:
        # Asking for the exception also says that nobody needs to be told of it.
        if done.cancelled() or done.exception() is not None:
            return 0
        arrays = {id(each) for each in (self.edit.source, self.edit.denoise_mask, self.edit.blend_mask)}
        return held_byte_count(done.result(), arrays)


class EditStore:
    """Edits that are open, and those that were lately, by tenant and content.

    Args:
        admission: where open ones take room, once however often they are open.
        max_bytes: of those that nobody has open any more.
    """

    def __init__(self, admission: Admission, max_bytes: int) -> None:
        self._admission, self._max_bytes = admission, max_bytes
        self._edits: OrderedDict[tuple[str, bytes], KeptEdit] = OrderedDict()

    def find(self, tenant: str, sha256: bytes) -> KeptEdit | None:
        """The edit of that content that this tenant sent before; None when it is not kept."""
        key = (tenant, sha256)
        if key in self._edits:
            self._edits.move_to_end(key)
        return self._edits.get(key)

    def open(self, kept: KeptEdit, caller: Party) -> None:
        """Count a user until `close`.

        Raises:
            Overloaded: it is the first, and there is no room.
        """
        if not kept.user_count:
            self._admission.reserve(0, kept.byte_count, caller)
            kept.payer, kept.reserved = caller, kept.byte_count
        kept.user_count += 1
        self._edits[kept.tenant, kept.sha256] = kept

    def close(self, kept: KeptEdit) -> None:
        """One user less; what nobody has open is kept while there is room for it."""
        kept.user_count -= 1
        if kept.user_count:
            return
        self._admission.release(0, kept.reserved, kept.payer)
        for critic, prepared in list(kept.prepared.items()):
            if not prepared.done():
                # Never started unless it has begun.
                prepared.cancel()
                del kept.prepared[critic]
        self._evict()

    def forget(self, critic: str) -> None:
        """Let go of what a critic made of them; for one that has left."""
        for kept in self._edits.values():
            kept.forget(critic)

    def _evict(self) -> None:
        idle = [each for each in self._edits.values() if not each.user_count]
        excess = sum(each.byte_count for each in idle) - self._max_bytes
        for each in idle:
            if excess <= 0:
                return
            del self._edits[each.tenant, each.sha256]
            excess -= each.byte_count


class RecentCritiques:
    """Critiques of the last while, so that a candidate that is sent again is not judged again.

    Args:
        max_bytes: of all of them.

    Attributes:
        byte_count: of those that are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self.byte_count = 0

    def find(self, key: bytes) -> pb.Critique | None:
        """The critique of that key; None when it is not kept."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return pb.Critique.FromString(self._kept[key])

    def keep(self, key: bytes, critique: pb.Critique) -> None:
        """Keep a critique; the least recently used ones make room."""
        self.byte_count -= len(self._kept.pop(key, b""))
        self._kept[key] = critique.SerializeToString()
        self.byte_count += len(self._kept[key])
        while self.byte_count > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.byte_count -= len(oldest)
