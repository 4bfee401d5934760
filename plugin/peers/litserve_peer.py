"""A critic behind LitServe, with base64 files in JSON, and its dynamic batches."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import litserve

from editcritic.plugin.peers.judge import Judge, Settings, pictures_of_json, settings

__all__ = ["Api", "main"]

_WAIT_S = 0.01
_TIMEOUT_S = 120
_STDIN = 0


class Api(litserve.LitAPI):
    """Decodes in the worker and judges what waits together.

    Args:
        critic: its full name.
        batch_count: most to judge together.
    """

    def __init__(self, critic: str, batch_count: int) -> None:
        super().__init__(max_batch_size=batch_count, batch_timeout=_WAIT_S, api_path="/judge")
        self._name = critic
        self._judge: Judge | None = None

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the critic in the worker's process."""
        self._judge = Judge(self._name)

    def decode_request(self, request: dict[str, str]) -> Any:
        """The pictures of one."""
        return pictures_of_json(request)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """As they are; LitServe's own would stack them."""
        return inputs

    def predict(self, x: Any) -> Any:
        """The scores; LitServe hands over a list where it batches, and one input where it does not."""
        assert self._judge is not None  # noqa: S101 - narrows the type
        return self._judge.scores(x) if isinstance(x, list) else self._judge.scores([x])[0]

    def unbatch(self, output: list[Any]) -> list[Any]:
        """An answer for each."""
        return output

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        """They are JSON already."""
        return output


def main(told: Settings) -> None:
    """Serve until the input closes."""
    api = Api(told.critic, Judge(told.critic).batch_count)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=told.workers, timeout=_TIMEOUT_S)
    threading.Thread(target=_stop_with_the_input, daemon=True).start()
    server.run(
        host="127.0.0.1",
        port=told.port,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )


def _stop_with_the_input() -> None:
    # Not through sys.stdin: its lock would be held in the processes that LitServe forks.
    os.read(_STDIN, 1)
    if os.getpgrp() == os.getpid():
        # LitServe's manager and workers would outlive it.
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(settings())
