"""Critics for the loop: at a server over one stream for each edit, or at a server of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from editcritic.plugin.client import Client, CritiqueStream
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.server.critics import critic_name
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.enums import value_name
from editcritic.v1.errors import (
    DeadlineExceeded,
    EditCriticError,
    Overloaded,
    ServerUnavailable,
    error_from_status,
)

__all__ = ["EmbeddedCritic", "ServedCritic", "ServedJudge"]

_ANSWER_S = 120.0
_RESTARTS = 3


class ServedJudge:
    """An edit that is open at a server. See `editcritic.refine.critic.EditJudge`."""

    def __init__(self, stream: CritiqueStream) -> None:
        self._stream = stream
        self.identity = stream.opened.critic

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        """Send it and wait for its answer. Raises: EditCriticError."""
        name = candidate.candidate_id
        if progress is None:
            self._stream.candidate(name, candidate)
        else:
            told = progress.engine if progress.HasField("engine") else None
            self._stream.preview(name, candidate, progress.fraction, step=progress.step, engine=told)
        for event in self._stream.events(_ANSWER_S):
            if event.HasField("critique") and event.critique.candidate_id == name:
                return event.critique
            if event.HasField("candidate_error") and event.candidate_error.candidate_id == name:
                raise error_from_status(event.candidate_error.status)
            if event.HasField("dropped") and event.dropped.candidate_id == name:
                reason = value_name(pb.DropReason, event.dropped.reason)
                raise Overloaded(f"the server did not judge {name!r}: {reason}")
        raise DeadlineExceeded(f"the server did not judge {name!r} within {_ANSWER_S:.0f} s")


class ServedCritic:
    """A critic at a server.

    Args:
        client: connected to it. critic: name; by default the server's first. heat_map: ask for maps.
    """

    def __init__(self, client: Client, critic: str = "", *, heat_map: bool = True) -> None:
        self._client, self._critic, self._heat_map = client, critic, heat_map

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[ServedJudge]:
        """Open an edit on a stream. Raises: EditCriticError when it is refused or there is no server."""
        with self._client.open_edit(edit, critic=self._critic, heat_map=self._heat_map) as stream:
            yield ServedJudge(stream)


class EmbeddedCritic:
    """A critic in a server of one's own. When that dies it is started again and the edit goes on.

    Args:
        critic: name in the registry, or `name@weights`. heat_map: ask for maps.
    """

    def __init__(self, critic: str, *, heat_map: bool = True) -> None:
        self.server = EmbeddedServer([critic], ["--no-verdicts"])
        self._critic, self._heat_map = critic_name(critic), heat_map

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[_RestartingJudge]:
        """Start the server and open the edit. Raises: EditCriticError."""
        judge = _RestartingJudge(self.server, edit, self._critic, self._heat_map)
        try:
            judge.reopen()
            yield judge
        finally:
            judge.close()
            self.server.stop()


class _RestartingJudge:
    def __init__(self, server: EmbeddedServer, edit: pb.Edit, critic: str, heat_map: bool) -> None:
        self._server, self._edit = server, edit
        self._critic, self._heat_map = critic, heat_map
        self._client: Client | None = None
        self._stream: CritiqueStream | None = None
        self.identity = pb.CriticIdentity()

    def reopen(self) -> None:
        """A server that runs, and a stream to it."""
        self.close()
        if self._server.pid is None:
            self._server.stop()  # lets go of the pipes of one that died
        self._server.start()
        self._client = Client(self._server.address)
        self._stream = self._client.open_edit(
            self._edit, max_reconnects=0, critic=self._critic, heat_map=self._heat_map
        )
        self.identity = self._stream.opened.critic

    def close(self) -> None:
        """Leave stream and connection; the server stays."""
        for each in (self._stream, self._client):
            if each is not None:
                each.close()
        self._stream = self._client = None

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        """Judge it; a server that dies over it again and again is told. Raises: EditCriticError."""
        failure: EditCriticError = ServerUnavailable("the embedded server is not running")
        for _ in range(_RESTARTS):
            try:
                if self._stream is None:
                    self.reopen()
                if self._stream is not None:
                    return ServedJudge(self._stream).critique(candidate, progress)
            except ServerUnavailable as error:
                failure = error
                self.close()
                # One that was killed a moment ago may still look alive.
                self._server.stop()
        raise failure
