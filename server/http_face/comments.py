"""What the contract says of each message, field and method: the comments of the .proto files that come with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

__all__ = ["comments"]

_OPENS = re.compile(r"(?:message|enum|service|oneof)\s+(\w+)\s*\{")
_RPC = re.compile(r"rpc\s+(\w+)\s*\(")
_FIELD = re.compile(r"(?:(?:repeated|optional)\s+)?(?:map\s*<[^>]*>|[\w.]+)\s+(\w+)\s*=\s*\d+")
_VALUE = re.compile(r"([A-Z][A-Z0-9_]*)\s*=\s*\d+")


@cache
def comments() -> dict[str, str]:
    """Comments by full name: ``editcritic.v1.Edit.prompt``; an enum's values as ``editcritic.v1.Role.ROLE_ADMIN``."""
    found: dict[str, str] = {}
    for file in resources.files("editcritic.v1").iterdir():
        if file.name.endswith(".proto"):
            found.update(_read(file.read_text(encoding="utf-8")))
    return found


def _read(text: str) -> Iterator[tuple[str, str]]:
    package = re.search(r"^package\s+([\w.]+);", text, re.MULTILINE)
    scope, said = [package[1] if package else ""], []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            said.append(line[2:].strip())
            continue
        named = _OPENS.match(line) or _RPC.match(line) or _VALUE.match(line) or _FIELD.match(line)
        if named:
            yield ".".join((*filter(None, scope), named[1])), " ".join(said)
        if line.endswith("{"):
            # A oneof is no level of its own: its fields are its message's.
            scope.append("" if line.startswith("oneof") or not named else named[1])
        elif line.startswith("}"):
            scope.pop()
        said = []
