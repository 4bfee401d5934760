"""The client: judge one edit, rank many, or watch candidates while they are produced.

::

    with Client("localhost:50551") as client:
        edit = make_edit("photo.jpg", "mask.png", prompt="a red ball")
        critique = client.critique(edit, "edit.png")

    async with AsyncClient("localhost:50551") as client:
        critique = await client.critique(edit, "edit.png")

It needs grpcio, protobuf, Pillow and NumPy, and nothing of torch. Every error is one of the tree in
`editcritic.v1.errors`. Both clients have the same methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc

from editcritic.plugin.async_client import AsyncClient, AsyncCritiqueStream
from editcritic.plugin.channels import DEFAULT_ADDRESS, Endpoint, error_from_rpc
from editcritic.plugin.critique_stream import CritiqueStream
from editcritic.plugin.known_edits import KnownEdits
from editcritic.plugin.messages import Candidates, as_candidate, as_candidates, make_options, make_verdict
from editcritic.plugin.pictures import Picture, make_candidate, make_edit
from editcritic.plugin.stream_state import StreamState
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import critic_pb2_grpc, tracing

__all__ = [
    "AsyncClient",
    "AsyncCritiqueStream",
    "Client",
    "CritiqueStream",
    "make_candidate",
    "make_edit",
]

DEFAULT_TIMEOUT_S = 60.0
_Answer = TypeVar("_Answer")


class Client:
    """Calls a critic server and waits for the answers. Safe to share between threads.

    Args:
        address: ``host:port``.
        token: bearer token, when the server asks for one.
        tls: True for the system's certificate authorities, or a PEM file; False for clear text.
        identity: PEM files of a certificate and its key, when the server asks its clients for one.
        timeout_s: seconds that one call may take, retries included.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str | None = None,
        tls: bool | Path = False,
        identity: tuple[Path, Path] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._endpoint = Endpoint(address, token, tls, identity)
        self._timeout_s = timeout_s
        self._known = KnownEdits()
        self._channel = self._endpoint.channel()
        self._stub = critic_pb2_grpc.CriticServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; open streams end with an error."""
        self._channel.close()

    def critique(
        self,
        edit: pb.Edit,
        candidate: Picture | pb.Candidate,
        *,
        progress: pb.DenoisingProgress | None = None,
        **options: Any,
    ) -> pb.Critique:
        """Judge one candidate.

        Args:
            edit: what the user asked for.
            candidate: a picture, or a candidate with its region and seed.
            progress: set for a preview: how far denoising has come.
            **options: critic, heat_map, max_defects, budget_s, bulk; see `make_options`.

        Raises:
            EditCriticError: why it could not be judged.
        """
        request = pb.CritiqueRequest(
            edit=edit,
            candidate=as_candidate(candidate),
            options=make_options(**options),
            progress=progress,
        )
        return self._call(self._stub.Critique, request).critique

    def rank(self, edit: pb.Edit, candidates: Candidates, **options: Any) -> Sequence[pb.RankedCandidate]:
        """Order candidates from best to worst; those that abstained or failed stand last, without a place.

        Raises:
            EditCriticError: why they could not be ranked.
        """
        request = pb.RankRequest(
            edit=edit, candidates=as_candidates(candidates), options=make_options(**options)
        )
        return self._call(self._stub.Rank, request).ranking

    def list_critics(self) -> pb.ListCriticsResponse:
        """The server's critics, versions and limits.

        Raises:
            EditCriticError: there is no server, or it is no editcritic.
        """
        return self._call(self._stub.ListCritics, pb.ListCriticsRequest())

    def record_verdict(
        self, edit_id: str, candidate_id: str, kind: pb.VerdictKind.ValueType, **details: Any
    ) -> bool:
        """Tell what the person did; False when this verdict was kept before. See `make_verdict` for details.

        Raises:
            EditCriticError: why it was not kept.
        """
        verdict = make_verdict(edit_id, candidate_id, kind, **details)
        return self._call(self._stub.RecordVerdict, verdict).created

    def open_edit(
        self,
        edit: pb.Edit,
        *,
        max_reconnects: int = 5,
        timeout_s: float | None = None,
        while_waiting: Callable[[], object] | None = None,
        **options: Any,
    ) -> CritiqueStream:
        """Open an edit to judge its candidates while they are produced; use it in a ``with`` block.

        Args:
            edit: what the user asked for; it is sent once, unless the server does not keep it.
            max_reconnects: connections in a row that may be lost before the stream gives up.
            timeout_s: seconds until the edit must be open; by default the client's.
            while_waiting: called every 50 ms until it is open; what it raises ends the stream and is raised here.
            **options: critic, heat_map, max_defects, budget_s, bulk; see `make_options`.

        Raises:
            EditCriticError: the edit was refused, or there is no server.
        """
        state = StreamState(edit, make_options(**options), self._known)
        with tracing.span("client CritiqueStream"):
            stream = CritiqueStream(self._stub, self._endpoint, state, max_reconnects)
            stream.wait_until_open(self._timeout_s if timeout_s is None else timeout_s, while_waiting)
        return stream

    def _call(self, method: Callable[..., _Answer], request: Any) -> _Answer:
        with tracing.span(f"client {type(request).__name__.removesuffix('Request')}"):
            try:
                return method(request, timeout=self._timeout_s, metadata=self._endpoint.metadata())
            except grpc.RpcError as error:
                raise error_from_rpc(error, self._endpoint.address) from error
