"""The server over HTTP and JSON, by the standard library alone. Every call blocks: it belongs into a worker thread."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import suppress
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

__all__ = ["HttpClient", "ServerError", "Unreachable", "parse_address"]

Json = Dict[str, Any]
Body = List[bytes]

CONNECT_TIMEOUT_S = 3.0
_CHUNK = 1 << 16


class Unreachable(Exception):
    """Nobody answers at the address, or the connection broke off."""


class ServerError(Exception):
    """The server refused or failed.

    Attributes:
        code: canonical name, "INVALID_ARGUMENT" for one. retry_after_s: when to try again; None when unknown.
    """

    def __init__(self, code: str, message: str, retry_after_s: Optional[float] = None) -> None:
        super().__init__(message or code)
        self.code, self.retry_after_s = code, retry_after_s


def parse_address(text: str) -> Tuple[str, int]:
    """Host and port of ``host:port``, with or without ``http://``. Raises: ValueError, with what was expected."""
    bare = text.strip()
    if bare.startswith("http://"):
        bare = bare[len("http://") :]
    host, _, port = bare.rstrip("/").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no address; expected host:port, for example 127.0.0.1:50052")
    return host.strip("[]"), int(port)


class HttpClient:
    """One server. A call may be ended from another thread by `close`.

    Args:
        address: host:port. token: sent as a bearer token when there is one. timeout_s: longest silence on a call.
    """

    def __init__(self, address: str, token: str = "", timeout_s: float = 600.0) -> None:
        self._host, self._port = parse_address(address)
        self._token, self._timeout_s = token, timeout_s
        self._open: Optional[http.client.HTTPConnection] = None
        self._lock = threading.Lock()

    def is_serving(self) -> bool:
        """Whether a server is there and takes work.

        Raises: Unreachable when nobody answers, ServerError when it is no editcritic.
        """
        response = self._request("GET", "/v1/health", None, CONNECT_TIMEOUT_S)
        try:
            answer = json.loads(response.read(_CHUNK))
            return bool(answer["status"] == "SERVING")
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError("UNKNOWN", "what answers at this address is no editcritic server") from error
        finally:
            self.close()

    def call(self, service: str, method: str, body: Union[Json, Body]) -> Json:
        """A unary call. Raises: Unreachable, ServerError."""
        response = self._request("POST", f"/v1/{service}/{method}", body, self._timeout_s)
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_plain(error)) from error
        finally:
            self.close()
        if response.status != 200:
            raise _error_of(data, response)
        answer: Json = json.loads(data)
        return answer

    def stream(self, service: str, method: str, body: Union[Json, Body]) -> Iterator[Json]:
        """The messages of a server-streaming call, as they come. Raises: Unreachable, ServerError."""
        response = self._request("POST", f"/v1/{service}/{method}", body, self._timeout_s)
        try:
            if response.status != 200:
                raise _error_of(response.read(), response)
            for line in _lines(response):
                message = json.loads(line)
                if "error" in message:
                    raise _error_from(message["error"])
                yield message["result"]
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            raise Unreachable(_plain(error)) from error
        finally:
            self.close()

    def close(self) -> None:
        """End what runs; the server stops working on it. Safe from any thread, and to call twice."""
        with self._lock:
            connection, self._open = self._open, None
        if connection is None:
            return
        if connection.sock is not None:
            with suppress(OSError):  # it was closed by the other side
                connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _request(
        self, verb: str, path: str, body: Union[Json, Body, None], timeout_s: float
    ) -> http.client.HTTPResponse:
        parts = [json.dumps(body).encode()] if isinstance(body, dict) else body
        connection = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        with self._lock:
            self._open = connection
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            connection.request(verb, path, _pieces(parts), self._headers(parts))
            return connection.getresponse()
        except (OSError, http.client.HTTPException, AttributeError) as error:
            self.close()
            raise Unreachable(_plain(error)) from error

    def _headers(self, parts: Optional[Body]) -> Dict[str, str]:
        headers = {"Accept": "application/json, application/x-ndjson", "Connection": "close"}
        if parts is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(sum(map(len, parts)))
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


def _pieces(parts: Optional[Body]) -> Optional[Iterator[bytes]]:
    """The body in pieces small enough that no copy holds the interpreter for long."""
    if parts is None:
        return None
    return (part[at : at + _CHUNK] for part in parts for at in range(0, len(part), _CHUNK))


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Lines of the body; pictures make some of them megabytes long."""
    waiting: List[bytes] = []
    while True:
        data = response.read1(_CHUNK)
        if not data:
            break
        *ended, rest = data.split(b"\n")
        for piece in ended:
            line = b"".join([*waiting, piece])
            waiting = []
            if line.strip():
                yield line
        waiting.append(rest)
    if b"".join(waiting).strip():
        raise http.client.IncompleteRead(b"".join(waiting)[:64])


def _error_of(data: bytes, response: http.client.HTTPResponse) -> ServerError:
    after = response.getheader("Retry-After")
    try:
        return _error_from(json.loads(data)["error"], after)
    except (ValueError, KeyError, TypeError):
        return ServerError("UNKNOWN", f"the server answered {response.status} {response.reason}")


def _error_from(error: Json, after: Optional[str] = None) -> ServerError:
    seconds = float(after) if after and after.isdigit() else None
    return ServerError(str(error.get("code", "UNKNOWN")), str(error.get("message", "")), seconds)


def _plain(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens at this address"
    if isinstance(error, socket.timeout):
        return "the server did not answer in time"
    if isinstance(error, socket.gaierror):
        return "there is no such host"
    return "the connection broke off"
