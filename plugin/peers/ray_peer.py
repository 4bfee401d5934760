"""A critic behind Ray Serve's HTTP proxy, with base64 files in JSON, and `serve.batch`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from typing import Any

from editcritic.plugin.peers.judge import Judge, Settings, pictures_of_json, settings

__all__ = ["main"]

_WAIT_S = 0.01
_MOST_REQUESTS = 256
_STORE_BYTES = 128 * 2**20


def main(told: Settings) -> None:
    """Serve on a Ray of its own until the input closes."""
    import ray
    from ray import serve

    with tempfile.TemporaryDirectory(prefix="peer") as folder:
        ray.init(
            address="local",
            num_cpus=told.workers + 1,
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": told.port})
            serve.run(_application(told), name="peer", route_prefix="/judge")
            sys.stdin.read()
        finally:
            serve.shutdown()
            ray.shutdown()


def _application(told: Settings) -> Any:
    from ray import serve
    from starlette.requests import Request

    count = Judge(told.critic).batch_count

    @serve.deployment(num_replicas=told.workers, max_ongoing_requests=_MOST_REQUESTS)
    class Peer:
        """Decodes and judges in threads, so that the replica's loop takes requests meanwhile."""

        def __init__(self) -> None:
            self.judge = Judge(told.critic)

        @serve.batch(max_batch_size=count, batch_wait_timeout_s=_WAIT_S)
        async def scores(self, requests: list[Any]) -> list[dict[str, float]]:
            return await asyncio.to_thread(self.judge.scores, requests)

        async def __call__(self, request: Request) -> dict[str, float]:
            body = await request.json()
            found: dict[str, float] = await self.scores(await asyncio.to_thread(pictures_of_json, body))
            return found

    bound: Any = Peer
    return bound.bind()


if __name__ == "__main__":
    main(settings())
