"""CPU time of the server for one Critique over gRPC and over HTTP, in turns: ``python -m tests.server.http_cost``."""

from __future__ import annotations

import http.client
import statistics
from collections.abc import Callable

import numpy as np
import psutil

from editcritic.plugin.client import Client, make_candidate, make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.v1 import critic_pb2 as pb
from tests.server.http_speaking import JSON, as_json

SIDES = {64: 100, 256: 60, 1024: 12}
ROUNDS = 5


def request_of(side: int) -> pb.CritiqueRequest:
    """An edit of a noisy picture; PNG, as our client sends it."""
    rng = np.random.default_rng(0)
    picture = np.clip(np.cumsum(rng.normal(0, 2, (side, side, 3)), 1) + 128, 0, 255).astype(np.uint8)
    mask = np.zeros((side, side), np.float32)
    mask[side // 4 : side // 2, side // 4 : side // 2] = 1
    return pb.CritiqueRequest(edit=make_edit(picture, mask), candidate=make_candidate(picture, "c"))


def spent(process: psutil.Process, call: Callable[[], None], count: int) -> float:
    """Milliseconds of CPU time a call."""
    before = process.cpu_times()
    for _ in range(count):
        call()
    after = process.cpu_times()
    return 1000 * (after.user + after.system - before.user - before.system) / count


def main() -> None:
    """Print a line for each size."""
    flags = ["--no-verdicts", "--http=127.0.0.1:0", "--workers=1"]
    with EmbeddedServer(["dummy"], flags) as server, Client(server.address) as client:
        process, connection = psutil.Process(server.pid), http.client.HTTPConnection(server.http_address)
        for side, count in SIDES.items():
            request = request_of(side)
            body = as_json(request)

            def over_http(body: bytes = body) -> None:
                connection.request("POST", "/v1/CriticService/Critique", body, JSON)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200

            def over_grpc(request: pb.CritiqueRequest = request) -> None:
                client.critique(request.edit, request.candidate)

            over_http(), over_grpc()
            rounds = [
                (spent(process, over_grpc, count), spent(process, over_http, count)) for _ in range(ROUNDS)
            ]
            native, web = (statistics.median(column) for column in zip(*rounds, strict=True))
            size = request.ByteSize() / 1000
            print(
                f"{side} px, {size:.0f} KB: gRPC {native:.1f} ms, HTTP {web:.1f} ms, {web / native:.1f} times"
            )
        connection.close()


if __name__ == "__main__":
    main()
