"""`editcritic critics`: what a server has loaded, and how to replace it without a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import grpc
import typer
from rich.table import Table

from editcritic.plugin.channels import DEFAULT_ADDRESS, error_from_rpc
from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.cli.inputs import named_endpoint
from editcritic.v1 import admin_pb2, admin_pb2_grpc
from editcritic.v1 import critic_pb2 as pb

__all__ = ["critics"]

_LOADING_TIMEOUT_S = 1800.0

critics = typer.Typer(
    help="Load, replace and unload critics of a server that was started with --admin.", no_args_is_help=True
)
_Server = Annotated[str, typer.Option("--server", envvar="EDITCRITIC_SERVER", help="Server as host:port.")]


@critics.command("list")
@command
def _list(server: _Server = DEFAULT_ADDRESS) -> None:
    """What is in memory."""
    answer = _ask(server, lambda stub: stub.ListLoadedCritics, admin_pb2.ListLoadedCriticsRequest())
    table = Table("critic", "version", "loaded as", "state", "new edits", "open edits")
    for each in answer.critics:
        identity, current = each.info.identity, "yes" if each.is_current else "no"
        state = pb.CriticState.Name(each.info.state).removeprefix("CRITIC_STATE_").lower()
        table.add_row(identity.name, identity.version, each.spec, state, current, str(each.open_edit_count))
    stdout.print(table)


@critics.command("load")
@command
def _load(
    spec: Annotated[str, typer.Argument(help="As for `serve --critics`: network@FOLDER.")],
    server: _Server = DEFAULT_ADDRESS,
) -> None:
    """Load and warm a critic; then new edits go to it."""
    answer = _ask(server, lambda stub: stub.LoadCritic, admin_pb2.LoadCriticRequest(spec=spec))
    identity = answer.critic.info.identity
    stdout.print(f"{identity.name} {identity.version} serves", markup=False)


@critics.command("unload")
@command
def _unload(
    name: Annotated[str, typer.Argument(help="Name of the critic.")], server: _Server = DEFAULT_ADDRESS
) -> None:
    """Take a critic out."""
    _ask(server, lambda stub: stub.UnloadCritic, admin_pb2.UnloadCriticRequest(name=name))
    stdout.print(f"{name} takes no more edits", markup=False)


def _ask(server: str, method: Callable[[admin_pb2_grpc.AdminServiceStub], Any], request: Any) -> Any:
    endpoint = named_endpoint(server)
    with endpoint.channel() as channel:
        call = method(admin_pb2_grpc.AdminServiceStub(channel))
        try:
            return call(request, timeout=_LOADING_TIMEOUT_S, metadata=endpoint.metadata())
        except grpc.RpcError as error:
            raise error_from_rpc(error, server) from error
