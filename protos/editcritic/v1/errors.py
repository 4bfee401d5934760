"""The errors of editcritic, the same on both sides of the wire.

::

    EditCriticError                 anything below
    ├── InvalidInput                INVALID_ARGUMENT     the request can never succeed as it is
    │   └── ImageError              INVALID_ARGUMENT     a picture or a mask is at fault
    ├── NotFound                    NOT_FOUND            no critic, engine or edit of that name
    ├── ProtocolError               FAILED_PRECONDITION  a message out of turn, or another contract
    │   └── CandidateExists         ALREADY_EXISTS       this candidate was sent before
    ├── Overloaded                  RESOURCE_EXHAUSTED   too much is waiting; see `retry_after_s`
    │   └── QuotaExceeded           RESOURCE_EXHAUSTED   the caller's own quota is used up
    ├── DeadlineExceeded            DEADLINE_EXCEEDED    the caller's deadline or the item's budget passed
    ├── Unauthenticated             UNAUTHENTICATED      no token, or a wrong one
    ├── PermissionDenied            PERMISSION_DENIED    the caller's role does not reach this call
    ├── ServerUnavailable           UNAVAILABLE          nobody listens, or the server is stopping
    ├── Incompatible                UNIMPLEMENTED        no editcritic there, or another version
    ├── Cancelled                   CANCELLED            the caller took the work back
    └── ServerFault                 INTERNAL             a fault of the server; its log has the incident

A server raises them, the gRPC face turns them into a ``google.rpc.Status`` with ``ErrorInfo``
(https://google.aip.dev/193), and the client raises the same class again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "Cancelled",
    "CandidateExists",
    "DeadlineExceeded",
    "EditCriticError",
    "ImageError",
    "Incompatible",
    "InvalidInput",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "ProtocolError",
    "QuotaExceeded",
    "ServerFault",
    "ServerUnavailable",
    "Unauthenticated",
    "error_from_status",
]

DOMAIN = "editcritic"
_PREFIX = "ERROR_REASON_"

# Details travel in HTTP/2 trailers, for which 8 KB is a common limit of peers.
_MAX_MESSAGE_CHARS = 1000
_MAX_METADATA_CHARS = 200


class EditCriticError(Exception):
    """Anything that editcritic refuses or fails to do.

    Args:
        message: what came, what was expected, and what to do about it.
        reason: the machine-readable reason.
        field: path of the request's field that is at fault, for example ``edit.source``.
        metadata: further facts for programs, short strings.
        retry_after_s: seconds to wait before trying again, when trying again makes sense.
    """

    code: ClassVar[int] = 2
    """Canonical gRPC status code (https://grpc.io/docs/guides/status-codes/)."""

    def __init__(
        self,
        message: str,
        *,
        reason: pb.ErrorReason.ValueType = pb.ERROR_REASON_UNSPECIFIED,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.field = field
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s

    @property
    def reason_name(self) -> str:
        """The reason without its prefix, for example ``MASK_EMPTY``; ``UNSPECIFIED`` when there is none."""
        return pb.ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    def in_field(self, parent: str) -> EditCriticError:
        """The same error, told from one level further out: ``source`` in ``edit`` is ``edit.source``."""
        self.field = f"{parent}.{self.field}" if self.field else parent
        return self

    def to_status(self) -> status_pb2.Status:
        """The error as a status with ErrorInfo and, where they apply, BadRequest and RetryInfo."""
        status = status_pb2.Status(code=self.code, message=self.message[:_MAX_MESSAGE_CHARS])
        for detail in self._details():
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        return status

    def _details(self) -> list[Message]:
        metadata = {key: value[:_MAX_METADATA_CHARS] for key, value in list(self.metadata.items())[:8]}
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason_name, domain=DOMAIN, metadata=metadata)
        ]
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.field, description=self.message[:_MAX_METADATA_CHARS]
            )
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(round(self.retry_after_s * 1000))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        return details


class InvalidInput(EditCriticError):
    """The request can never succeed as it is."""

    code = 3


class ImageError(InvalidInput):
    """A picture or a mask is at fault."""


class NotFound(EditCriticError):
    """There is no critic, engine or edit of that name."""

    code = 5


class ProtocolError(EditCriticError):
    """A message came out of turn, or belongs to another contract."""

    code = 9


class CandidateExists(ProtocolError):
    """This candidate was sent before on this stream."""

    code = 6


class Overloaded(EditCriticError):
    """Too much is waiting, or the device is out of memory."""

    code = 8


class QuotaExceeded(Overloaded):
    """The caller's own quota is used up, however much room the server has."""

    def _details(self) -> list[Message]:
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=self.metadata.get("caller", "")[:_MAX_METADATA_CHARS],
            description=self.message[:_MAX_METADATA_CHARS],
        )
        return [*super()._details(), error_details_pb2.QuotaFailure(violations=[violation])]


class DeadlineExceeded(EditCriticError):
    """The caller's deadline or the item's budget passed."""

    code = 4


class Unauthenticated(EditCriticError):
    """No token came, or a wrong one."""

    code = 16


class PermissionDenied(EditCriticError):
    """The token is known, but its role does not reach this call."""

    code = 7


class ServerUnavailable(EditCriticError):
    """Nobody listens there, or the server is stopping."""

    code = 14


class Incompatible(EditCriticError):
    """The other side does not know this method: no editcritic, or one of another version."""

    code = 12


class Cancelled(EditCriticError):
    """The caller took the work back."""

    code = 1


class ServerFault(EditCriticError):
    """The server is at fault, not the request."""

    code = 13


_BY_CODE: Mapping[int, type[EditCriticError]] = {
    kind.code: kind
    for kind in (
        InvalidInput,
        NotFound,
        ProtocolError,
        CandidateExists,
        Overloaded,
        DeadlineExceeded,
        Unauthenticated,
        PermissionDenied,
        ServerUnavailable,
        Incompatible,
        Cancelled,
        ServerFault,
    )
}
_REASON_NAMES = frozenset(pb.ErrorReason.keys())
_IMAGE_REASONS = frozenset(
    {
        pb.ERROR_REASON_IMAGE_UNDECODABLE,
        pb.ERROR_REASON_IMAGE_TOO_LARGE,
        pb.ERROR_REASON_IMAGE_TOO_SMALL,
        pb.ERROR_REASON_IMAGE_SIZE,
        pb.ERROR_REASON_MASK_EMPTY,
        pb.ERROR_REASON_MASK_SIZE,
    }
)


def error_from_status(status: status_pb2.Status) -> EditCriticError:
    """Rebuild the error that a ``google.rpc.Status`` was made of.

    A status of another program (no ErrorInfo of ours) gets the class of its code and no reason.
    """
    info, field, retry_after_s = error_details_pb2.ErrorInfo(), "", None
    kind = _BY_CODE.get(status.code, EditCriticError)
    for detail in status.details:
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
        elif status.code == Overloaded.code and detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR):
            kind = QuotaExceeded
    known = info.domain == DOMAIN and _PREFIX + info.reason in _REASON_NAMES
    reason = pb.ErrorReason.Value(_PREFIX + info.reason) if known else pb.ERROR_REASON_UNSPECIFIED
    kind = ImageError if reason in _IMAGE_REASONS else kind
    return kind(
        status.message, reason=reason, field=field, metadata=info.metadata, retry_after_s=retry_after_s
    )
