"""Edits that a server was sent before, so that another stream need not send them again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from editcritic.v1 import critic_pb2 as pb

__all__ = ["KnownEdits"]

_MOST = 256


class KnownEdits:
    """What one server calls the edits that it was sent. Safe to share between threads."""

    def __init__(self) -> None:
        self._names: OrderedDict[bytes, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def find(self, edit: pb.Edit) -> bytes:
        """The SHA-256 by which the server knows the edit; empty when it was not sent."""
        with self._guard:
            return self._names.get(_key(edit), b"")

    def note(self, edit: pb.Edit, sha256: bytes) -> None:
        """The server named an edit; an empty name forgets it."""
        with self._guard:
            self._names.pop(_key(edit), None)
            if sha256:
                self._names[_key(edit)] = sha256
            if len(self._names) > _MOST:
                self._names.popitem(last=False)


def _key(edit: pb.Edit) -> bytes:
    nameless = pb.Edit()
    nameless.CopyFrom(edit)
    nameless.edit_id = ""
    return hashlib.sha256(nameless.SerializeToString(deterministic=True)).digest()
