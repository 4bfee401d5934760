"""A critic behind Flask's development server, with pickled arrays: how published judges of images are often served.

Unpickling runs whatever the sender wrote, so whoever reaches such a server owns it. It exists here to be measured: it
listens on loopback alone, for as long as the benchmark runs, and nothing else of editcritic reads a pickle.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Mapping
from typing import Any

from editcritic.plugin.peers.judge import Judge, Settings, settings

__all__ = ["main", "pickled", "unpickled"]


def pickled(pictures: Mapping[str, Any]) -> bytes:
    """A request's body: the arrays of `judge.PICTURES`."""
    return pickle.dumps(dict(pictures))


def unpickled(answer: bytes) -> dict[str, float]:
    """The scores of this peer's answer, and of nobody else's."""
    scores: dict[str, float] = pickle.loads(answer)  # noqa: S301 - by a process of ours on loopback
    return scores


def main(told: Settings) -> None:
    """Serve until the input closes."""
    from flask import Flask, request
    from werkzeug.serving import make_server

    app, judge = Flask("peer"), Judge(told.critic)

    @app.post("/judge")
    def answer() -> bytes:
        pictures = pickle.loads(request.get_data())  # noqa: S301 - the habit that is measured; loopback alone
        return pickle.dumps(judge.scores([pictures])[0])

    server = make_server("127.0.0.1", told.port, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main(settings())
