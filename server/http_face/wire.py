"""Messages as canonical JSON of protobuf, read strictly: what came is the message that is meant, or it is refused."""

from __future__ import annotations

import json
import math
import string
from typing import Any, NoReturn

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, error_from_status

__all__ = ["error_object", "http_status", "read_message", "retry_after", "write_json", "write_message"]

# A picture is one value however large it is; the longest honest request has some hundreds.
_MAX_VALUES = 50_000
_MAX_DIGITS = 40
_MAX_TOLD_CHARS = 300
# Deleting is the quickest way through some megabytes: what is left are strangers and the end.
_BASE64 = (string.ascii_letters + string.digits + "+/-_").encode()
_WELL_KNOWN = "google.protobuf."
_NAMES = {
    0: "OK",
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
# As gRPC-gateway maps them (https://github.com/grpc-ecosystem/grpc-gateway, runtime/errors.go).
_HTTP = {
    0: 200,
    1: 499,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    14: 503,
    16: 401,
}
_MAY_COME_AGAIN = (429, 503)


def http_status(code: int) -> int:
    """The HTTP status of a canonical gRPC code."""
    return _HTTP.get(code, 500)


def retry_after(status: status_pb2.Status) -> int | None:
    """Whole seconds of a Retry-After, 1 where the error names none; None where trying again is not for now."""
    if http_status(status.code) not in _MAY_COME_AGAIN:
        return None
    return max(1, math.ceil(error_from_status(status).retry_after_s or 1.0))


def error_object(status: status_pb2.Status) -> dict[str, Any]:
    """An error as it is told: the code's name and number, the message, and the details with their types."""
    told = json_format.MessageToDict(status)
    return {
        "code": _NAMES.get(status.code, "UNKNOWN"),
        "status": status.code,
        "message": status.message,
        "details": told.get("details", []),
    }


def write_json(value: Any) -> bytes:
    """One line of JSON, without its end."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def write_message(message: Message) -> dict[str, Any]:
    """A message as JSON has it; fields without a value are left out."""
    return json_format.MessageToDict(message)


def read_message(data: bytes, descriptor: Descriptor) -> Message:
    """The message that some JSON means.

    Args:
        data: UTF-8; nothing at all is a message without a field.
        descriptor: of the message.

    Raises:
        InvalidInput: it is no JSON, has a field twice or one that the message has not, or a value of the wrong kind;
            the error names the field.
    """
    value = _parsed(data) if data.strip() else {}
    _check(descriptor, value, "")
    message = _class_of(descriptor)()
    try:
        json_format.ParseDict(value, message)
    # A lone surrogate is a UnicodeError, which is a ValueError.
    except (json_format.ParseError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise _unreadable(_told(error)) from error
    return message


def _class_of(descriptor: Descriptor) -> type[Message]:
    get = getattr(message_factory, "GetMessageClass", None)
    if get is None:  # before protobuf 4.22
        return message_factory.MessageFactory().GetPrototype(descriptor)  # type: ignore[attr-defined, no-any-return]
    return get(descriptor)  # type: ignore[no-any-return]


def _parsed(data: bytes) -> Any:
    # Read first, as millions of empty lists cost a hundred times the memory of their text.
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MAX_VALUES:
        raise _unreadable(f"it has over {_MAX_VALUES:,} values")
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_int=_whole
        )
    except RecursionError as error:
        raise _unreadable("it is nested too deep") from error
    except ValueError as error:
        raise _unreadable(_told(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)[:80]!r} is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _check(descriptor: Descriptor, value: Any, path: str) -> None:
    """Refuse what protobuf's reader would let pass or tell worse: unknown fields, and base64 with other characters."""
    if descriptor.full_name.startswith(_WELL_KNOWN):
        return
    if not isinstance(value, dict):
        raise _invalid(path, f"an object is expected, {_kind(value)} came")
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    given: set[int] = set()
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if name not in fields:
            raise _invalid(where[:100], f"{descriptor.name} has no field {name[:80]!r}")
        if fields[name].number in given:
            raise _invalid(where, "the field is there by both its names")
        given.add(fields[name].number)
        _check_field(fields[name], item, where)


def _check_field(field: FieldDescriptor, value: Any, path: str) -> None:
    if value is None:
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return
    is_list = isinstance(value, list)
    for item in value if is_list else [value]:
        if field.message_type is not None:
            _check(field.message_type, item, path)
        elif field.type == FieldDescriptor.TYPE_BYTES and not _is_base64(item):
            raise _invalid(path, "base64 is expected")


def _is_base64(value: Any) -> bool:
    if not isinstance(value, str) or not value.isascii():
        return False
    data = value.encode()
    rest = data.translate(None, _BASE64)
    return rest in (b"", b"=", b"==") and data.endswith(rest)


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _told(error: BaseException) -> str:
    return str(error).splitlines()[0][:_MAX_TOLD_CHARS] if str(error) else type(error).__name__


def _unreadable(why: str) -> InvalidInput:
    return InvalidInput(
        f"the request is no JSON of the message: {why}.", reason=pb.ERROR_REASON_MESSAGE_UNDECODABLE
    )


def _invalid(path: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"the request is no JSON of the message: {f'at {path}: ' if path else ''}{why}.",
        reason=pb.ERROR_REASON_MESSAGE_UNDECODABLE,
        field=path,
    )
