"""The server's log: for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, Literal

from editcritic.server.calls import current_call_id

__all__ = ["CALL_FIELDS", "set_up_logging"]

CALL_FIELDS = ("call_id", "caller", "method", "status", "reason", "duration_ms", "trace_id", "transport")
"""What a line about a call has besides its message, under these names. Nothing that a client sent is among them."""


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: found for name in CALL_FIELDS if (found := getattr(record, name, None))}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _of_its_call(record: logging.LogRecord) -> bool:
    """Lines that are written on the way of a call carry its name too."""
    if not hasattr(record, "call_id"):
        record.call_id = current_call_id()
    return True


def set_up_logging(form: Literal["text", "json"]) -> None:
    """Log to stderr.

    Args:
        form: text for people, json for one object a line with the `CALL_FIELDS` of a call.
    """
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.addFilter(_of_its_call)
    handler.setFormatter(_JsonFormatter() if form == "json" else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
