"""What the server keeps so that nothing is sent or judged twice: edits by their content, and recent critiques.

Both are bounded in bytes, the least recently used goes first, and neither is shared between tenants: the tenant is a
part of every key.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from editcritic.server.admission import NOBODY, Admission, Party
from editcritic.server.batcher import Batcher
from editcritic.server.canvas import Canvas
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.executors.memory import held_byte_count
from editcritic.v1 import critic_pb2 as pb

__all__ = ["EditStore", "KeptEdit", "RecentCritiques", "content_sha256", "edit_sha256"]


def edit_sha256(edit: pb.Edit) -> bytes:
    """SHA-256 of an edit's content, whatever its name."""
    nameless = pb.Edit()
    nameless.CopyFrom(edit)
    nameless.edit_id = ""
    return hashlib.sha256(nameless.SerializeToString(deterministic=True)).digest()


def content_sha256(candidate: pb.Candidate) -> bytes:
    """SHA-256 of a candidate as it came."""
    return hashlib.sha256(candidate.SerializeToString(deterministic=True)).digest()


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
        canvas: copies of its source.
    """

    tenant: str
    sha256: bytes
    edit: DecodedEdit
    prepared: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    byte_count: int = 0
    user_count: int = 0
    payer: Party = NOBODY
    reserved: int = 0
    canvas: Canvas = field(init=False)

    def __post_init__(self) -> None:
        self.canvas = Canvas(self.edit.source)

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
    """Critiques of the last while, so that a candidate that is sent again is not judged again; the latest of each name.

    Args:
        max_bytes: of all of them.

    Attributes:
        byte_count: of those that are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, tuple[bytes, bytes]] = OrderedDict()
        self.byte_count = 0

    def knows(self, name: Hashable) -> bool:
        """Whether one is kept under that name: only then is the content worth a look."""
        return name in self._kept

    def find(self, name: Hashable, sha256: bytes) -> pb.Critique | None:
        """The critique of that name and that content; None when it is not kept."""
        known, critique = self._kept.get(name, (b"", b""))
        if known != sha256:
            return None
        self._kept.move_to_end(name)
        return pb.Critique.FromString(critique)

    def keep(self, name: Hashable, sha256: bytes, critique: pb.Critique) -> None:
        """Keep a critique in place of the one before; the least recently used ones make room.

        Args:
            name: all that it depends on but the candidate's content: tenant, edit, critic, options, names, progress.
            sha256: of the content.
            critique: to be kept.
        """
        self._forget(self._kept.pop(name, None))
        self._kept[name] = sha256, critique.SerializeToString()
        self.byte_count += len(self._kept[name][1])
        while self.byte_count > self._max_bytes:
            self._forget(self._kept.popitem(last=False)[1])

    def _forget(self, entry: tuple[bytes, bytes] | None) -> None:
        self.byte_count -= len(entry[1]) if entry is not None else 0
