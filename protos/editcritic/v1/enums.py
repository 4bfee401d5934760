"""Names of enum values, also of those that a newer peer has and this one does not know."""

from __future__ import annotations

from typing import Any

__all__ = ["value_name"]


def value_name(enum: Any, value: int) -> str:
    """The name of a value as in the contract; one that is not known here is told by its number.

    Args:
        enum: of the generated code, such as ``critic_pb2.DefectKind``.
        value: of that enum.
    """
    known = enum.DESCRIPTOR.values_by_number.get(value)
    if known is not None:
        return str(known.name)
    prefix = enum.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return f"{prefix}UNKNOWN_{value}"
