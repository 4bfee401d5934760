"""`editcritic status`: whether a server, or one of its critics, is ready; for scripts and for containers."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer

from editcritic.plugin.channels import DEFAULT_ADDRESS, error_from_rpc
from editcritic.plugin.cli.console import BAD_INPUT, FAULT, command, fail, stdout
from editcritic.plugin.cli.inputs import named_endpoint
from editcritic.v1 import critic_pb2 as pb

__all__ = ["status"]

_SERVICE = pb.DESCRIPTOR.services_by_name["CriticService"].full_name


@command
def status(
    server: Annotated[
        str, typer.Option(envvar="EDITCRITIC_SERVER", help="Server as host:port.")
    ] = DEFAULT_ADDRESS,
    critic: Annotated[str, typer.Option(help="Ask for this critic alone.")] = "",
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 5.0,
) -> None:
    """Print the health of a server; exit code 0 when it serves, 1 when it does not, 3 when nobody answers."""
    try:
        from grpc_health.v1 import health_pb2, health_pb2_grpc
    except ModuleNotFoundError:
        fail("this needs grpcio-health-checking. Install it: pip install 'editcritic[server]'", BAD_INPUT)
    request = health_pb2.HealthCheckRequest(service=f"{_SERVICE}/{critic}" if critic else "")
    with named_endpoint(server).channel() as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                fail(f"{server} knows no critic {critic!r}", BAD_INPUT)
            raise error_from_rpc(error, server) from error
    word = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    stdout.print(f"{server} {critic} {word}".replace("  ", " "))
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(FAULT)
