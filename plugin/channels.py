"""How the client reaches a server: channel options, credentials, and gRPC's errors as errors of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.rpc import status_pb2

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import tracing
from editcritic.v1.errors import (
    EditCriticError,
    Incompatible,
    ServerFault,
    ServerUnavailable,
    error_from_status,
)

__all__ = [
    "DEFAULT_ADDRESS",
    "Endpoint",
    "backoff_s",
    "ended_early",
    "error_from_rpc",
    "is_worth_reconnecting",
]

DEFAULT_ADDRESS = "localhost:50551"
_SERVICE = pb.DESCRIPTOR.services_by_name["CriticService"].full_name
_DETAILS_KEY = "grpc-status-details-bin"

# Calls are idempotent, so they may be tried again; a stream resumes by itself and is left out.
_UNARY_METHODS = ("Critique", "Rank", "ListCritics", "RecordVerdict")
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE, "method": method} for method in _UNARY_METHODS],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                # What meets a server as it closes the connection is told CANCELLED, unheard.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # grpcio 1.85 goes by this one; with the one above alone a dead peer stays for a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # An idle stream sends no data; without this its connection would be asked twice and never again.
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.max_send_message_length", 64 * 2**20),
    # A server that is started a moment later should be found a moment later.
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


@dataclass(frozen=True)
class Endpoint:
    """A server's address and how to be let in.

    Attributes:
        address: ``host:port``.
        token: bearer token, when the server asks for one; it should then have TLS.
        tls: True for the system's certificate authorities, or a PEM file of one's own; False for clear text.
        identity: PEM files of a certificate and its key, when the server asks its clients for one; needs `tls`.

    Raises:
        ValueError: an identity without TLS.
    """

    address: str = DEFAULT_ADDRESS
    token: str | None = None
    tls: bool | Path = False
    identity: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        if self.identity is not None and not self.tls:
            raise ValueError("a client's certificate is shown over TLS only; give tls as well")

    def channel(self) -> grpc.Channel:
        """A blocking channel."""
        if self.tls:
            return grpc.secure_channel(self.address, self._credentials(), options=_OPTIONS)
        return grpc.insecure_channel(self.address, options=_OPTIONS)

    def aio_channel(self) -> grpc.aio.Channel:
        """An asyncio channel; it belongs to the running event loop."""
        if self.tls:
            return grpc.aio.secure_channel(self.address, self._credentials(), options=_OPTIONS)
        return grpc.aio.insecure_channel(self.address, options=_OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries: the token, and the present span where there are traces."""
        token = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        return (*token, *tracing.outgoing())

    def _credentials(self) -> grpc.ChannelCredentials:
        authority = self.tls.read_bytes() if isinstance(self.tls, Path) else None
        cert, key = (path.read_bytes() for path in self.identity) if self.identity else (None, None)
        return grpc.ssl_channel_credentials(authority, key, cert)


def error_from_rpc(error: grpc.RpcError, address: str) -> EditCriticError:
    """The error of the tree that a gRPC error stands for, with words for those that gRPC itself made.

    Args:
        error: as a blocking or an asyncio call raised it.
        address: of the server, for the message.
    """
    call: Any = error  # every RpcError that a call raises is also that call
    code, text, trailers = call.code(), call.details() or "", dict(call.trailing_metadata() or ())
    if _DETAILS_KEY in trailers:
        return error_from_status(status_pb2.Status.FromString(trailers[_DETAILS_KEY]))
    if code == grpc.StatusCode.UNAVAILABLE:
        return ServerUnavailable(_unreachable(address, text))
    if code == grpc.StatusCode.CANCELLED:
        # gRPC resets a call that arrives while its server closes the connection.
        return ServerUnavailable(
            f"the server at {address} ended the call unanswered; it is stopping. Try again, or start one:"
            " editcritic serve"
        )
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return Incompatible(
            f"the program at {address} does not know this call of editcritic.v1 ({text});"
            " it is no editcritic, or one of another version. Update the older side."
        )
    return error_from_status(status_pb2.Status(code=code.value[0], message=text))


def _unreachable(address: str, text: str) -> str:
    """What to do about an UNAVAILABLE of gRPC's own, whose words come from its TLS library."""
    if "certificate has expired" in text:
        return f"the certificate of the server at {address} has expired; renew it there, a restart is not needed."
    if "CERTIFICATE_VERIFY_FAILED" in text or "Hostname Verification" in text:
        return (
            f"the certificate of the server at {address} is not trusted ({text}). Give the PEM file of its authority"
            " (tls, or EDITCRITIC_TLS), and call it by a name that stands in it."
        )
    if "WRONG_VERSION_NUMBER" in text:
        return f"the server at {address} speaks clear text, and TLS was asked for ({text})."
    hint = ""
    if "Socket closed" in text or "onnection reset" in text:
        hint = (
            " It closed the connection: does it ask for TLS (EDITCRITIC_TLS), or for a certificate of yours?"
        )
    return f"no critic server answers at {address} ({text}).{hint} Start one: editcritic serve"


def ended_early(address: str) -> ServerFault:
    """The error of a stream that ended with OK although not everything was answered."""
    return ServerFault(f"{address} ended the stream before it had answered everything.")


def is_worth_reconnecting(error: EditCriticError) -> bool:
    """Whether the server went away, so that the same stream may succeed on a new connection."""
    if isinstance(error, ServerUnavailable):
        return True
    # A process that dies mid-stream can also show as INTERNAL or UNKNOWN, without details of ours.
    return error.code in (2, 13) and error.reason == pb.ERROR_REASON_UNSPECIFIED


def backoff_s(attempt: int) -> float:
    """Seconds to wait before a connection is tried again: 0.2, 0.4, 0.8 ..., at most 3."""
    return float(min(0.2 * 2 ** (attempt - 1), 3.0))
