"""A server by the HTTP and JSON convention that plays back what a test gives it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


class FakeServer:
    """answers: path to a JSON object, a list of NDJSON lines, or (status, object). Lines that are callables are called:
    to wait, or to break the connection by raising."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.requests = answers, []
        self.left = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def _handler(fake) -> type[BaseHTTPRequestHandler]:  # noqa: C901, N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                self.answer(fake.answers.get("health", {"status": "SERVING"}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append((self.path, body, dict(self.headers)))
                self.answer(fake.answers.get(self.path, (501, error("UNIMPLEMENTED", "no such method"))))

            def answer(self, what: Any) -> None:
                if isinstance(what, list):
                    self.stream(what)
                    return
                status, message = what if isinstance(what, tuple) else (200, what)
                data = json.dumps(message).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                if status in (429, 503):
                    self.send_header("Retry-After", "7")
                self.end_headers()
                self.wfile.write(data)

            def stream(self, lines: list[Json | Callable[[], None]]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    for line in lines:
                        if callable(line):
                            line()
                            continue
                        data = json.dumps(line).encode() + b"\n"
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.write(b"0\r\n\r\n")
                except ConnectionError:
                    fake.left.set()
                    self.close_connection = True

        return Handler

    @contextmanager
    def running(self) -> Iterator[FakeServer]:
        thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def error(code: str, message: str) -> Json:
    return {"error": {"code": code, "status": 3, "message": message, "details": []}}


def broken() -> None:
    raise ConnectionResetError
