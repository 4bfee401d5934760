"""Messages as each release wrote them, kept so that every later one still reads them.

``python -m tests.protos.golden`` writes those of the present version; run it once for a release, never again.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

__all__ = ["FOLDER", "KINDS", "as_dict", "filled"]

FOLDER = Path(__file__).with_name("golden")
KINDS: dict[str, type[Message]] = {
    kind.DESCRIPTOR.name: kind
    for kind in (
        pb.CritiqueRequest,
        pb.CritiqueResponse,
        pb.CritiqueStreamRequest,
        pb.CritiqueStreamResponse,
        pb.RankRequest,
        pb.RankResponse,
        pb.ListCriticsResponse,
        pb.RecordVerdictRequest,
        refine_pb2.RefineRequest,
        refine_pb2.RefineResponse,
    )
}
_DEPTH = 6


def filled(message: Message, depth: int = _DEPTH, oneofs: int = 0) -> Message:
    """Every field set, each to a value of its own; of a oneof the field of that number, counted round.

    Args:
        message: an empty one. depth: of messages within messages. oneofs: which of the choices.
    """
    for field in message.DESCRIPTOR.fields:
        choices = field.containing_oneof.fields if field.containing_oneof else [field]
        if depth and choices[oneofs % len(choices)] is field:
            _fill(message, field, depth, oneofs)
    return message


def _fill(message: Any, field: FieldDescriptor, depth: int, oneofs: int) -> None:
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Any":
        # Details of a status are of google's own types.
        return
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        holder = getattr(message, field.name)
        part = holder.add() if field.is_repeated else holder
        part.SetInParent()
        filled(part, depth - 1, oneofs)
    elif field.is_repeated:
        getattr(message, field.name).append(_value(field))
    else:
        setattr(message, field.name, _value(field))


def _value(field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values[-1].number
    kinds = {
        FieldDescriptor.CPPTYPE_STRING: field.name,
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_DOUBLE: field.number + 0.5,
        FieldDescriptor.CPPTYPE_FLOAT: field.number + 0.5,
    }
    value = kinds.get(field.cpp_type, field.number)
    return field.name.encode() if field.type == FieldDescriptor.TYPE_BYTES else value


def as_dict(message: Message) -> dict[str, Any]:
    """As canonical JSON has it."""
    told: dict[str, Any] = MessageToDict(message)
    return told


def main() -> None:
    """Write the messages of the present version."""
    folder = FOLDER / metadata.version("editcritic")
    folder.mkdir(parents=True)
    for name, kind in KINDS.items():
        choices = max((len(oneof.fields) for oneof in kind.DESCRIPTOR.oneofs), default=1)
        for number in range(choices):
            message = filled(kind(), oneofs=number)
            stem = folder / f"{name}-{number}"
            stem.with_suffix(".binpb").write_bytes(message.SerializeToString(deterministic=True))
            stem.with_suffix(".json").write_text(json.dumps(as_dict(message), indent=1) + "\n")


if __name__ == "__main__":
    main()
