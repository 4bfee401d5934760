"""GIMP's Script-Fu server (GIMP 2.10): an expression goes there, its value comes back.

A request is ``G``, a length of two bytes, the code; an answer is ``G``, 0 or 1 for an error, a length, the text.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from types import TracebackType

from editcritic.v1.errors import InvalidInput, ProtocolError, ServerUnavailable

__all__ = ["DEFAULT_PORT", "ScriptFu", "quoted", "unquoted"]

DEFAULT_PORT = 10008
"""Where GIMP's own menu entry starts the server."""

_HOST = "127.0.0.1"
_MAX_CODE_BYTES = 0xFFFF
_REQUEST, _ANSWER = struct.Struct(">cH"), struct.Struct(">cBH")


def quoted(text: str) -> str:
    """A text as a string of Scheme, whatever characters it has; control characters become spaces."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(value: str) -> str:
    """The text that a string of Scheme stands for; anything else as it is."""
    inner = re.fullmatch(r'"(.*)"', value, re.DOTALL)
    return re.sub(r"\\(.)", r"\1", inner[1]) if inner else value


class ScriptFu:
    """A connection to a GIMP on this machine; use it as ``with ScriptFu() as gimp``.

    Args:
        host: of the server; files pass between both programs, so it has to be this machine.
        port: of the server.
        timeout_s: that one expression may take.

    Attributes:
        port: as given.

    Raises:
        InvalidInput: the host is another machine.
        ServerUnavailable: no GIMP listens there.
    """

    def __init__(self, host: str = _HOST, port: int = DEFAULT_PORT, *, timeout_s: float = 120.0) -> None:
        if host != "localhost" and not _is_loopback(host):
            raise InvalidInput(
                f"GIMP has to be on this machine, as pictures pass through files; {host!r} came."
            )
        self.port = port
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise ServerUnavailable(
                f"no GIMP listens on {host}:{port} ({error.strerror or error}). Start it there: Filters > editcritic >"
                " Let editcritic in, or Filters > Script-Fu > Start Server."
            ) from error

    def __enter__(self) -> ScriptFu:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def evaluate(self, code: str) -> str:
        """The value of an expression, as Scheme writes it.

        Raises:
            InvalidInput: GIMP refused it; the message is GIMP's.
            ProtocolError: what answers is no Script-Fu server.
            ServerUnavailable: GIMP ended, or took too long.
        """
        data = code.encode()
        if len(data) > _MAX_CODE_BYTES:
            raise InvalidInput(f"Script-Fu takes {_MAX_CODE_BYTES:,} bytes at a time; {len(data):,} came.")
        try:
            self._socket.sendall(_REQUEST.pack(b"G", len(data)) + data)
            magic, failed, length = _ANSWER.unpack(self._received(_ANSWER.size))
            if magic != b"G":
                raise ProtocolError("what listens there is no Script-Fu server of GIMP 2.10.")
            text = self._received(length).decode(errors="replace").strip("\x00\n ")
        except OSError as error:
            raise ServerUnavailable(f"GIMP does not answer any more: {error}") from error
        if failed:
            raise InvalidInput(f"GIMP says: {text.removeprefix('Error: ')[:500]}")
        return text

    def _received(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise ConnectionError("the connection was closed")
            parts += part
        return bytes(parts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
