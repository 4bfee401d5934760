"""The critic as the loop sees it: an edit is opened once, then its previews and candidates are judged one by one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from editcritic.v1 import critic_pb2 as pb

__all__ = ["Critic", "EditJudge"]


class EditJudge(Protocol):
    """A critic with an edit open.

    identity: which critic answers.
    """

    identity: pb.CriticIdentity

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        """Judge a candidate, or with `progress` a preview of it. Raises: EditCriticError."""


class Critic(Protocol):
    """Whatever judges: a server, or a critic in this process. `plugin` has both; tests have their own."""

    def open(self, edit: pb.Edit, /) -> AbstractContextManager[EditJudge]:
        """Open an edit for as long as the block. Raises: EditCriticError when it is refused."""
