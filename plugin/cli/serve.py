"""`editcritic serve`: a critic server in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from editcritic.plugin.cli.console import BAD_INPUT, fail, stdout

__all__ = ["PASS_THROUGH", "refining", "serve"]

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
"""All other flags are the server's own, so that they are written down once."""

_OWN_FLAGS = """To carry out edits as well (RefineService):
  --engine, -e NAME     engine to offer: tabletop, a pipeline folder, or a hub id; may be repeated
  --journal FILE        where edits are kept (default: the user's own)
"""


def serve(
    context: typer.Context,
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", "-e", help="Also carry out edits with this engine; may be repeated."),
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="File of the edits carried out here.")
    ] = None,
) -> None:
    """Run a critic server until Ctrl-C or SIGTERM; see `editcritic serve --help` for its flags."""
    try:
        from editcritic.server.__main__ import main
    except ModuleNotFoundError as error:
        fail(f"the server needs {error.name}. Install it: pip install 'editcritic[server]'", BAD_INPUT)
    if {"-h", "--help"} & set(context.args):
        stdout.print(_OWN_FLAGS, markup=False)
    services = [refining(engine, journal)] if engine else []
    raise typer.Exit(main(context.args, services))


def refining(engines: list[str], journal: Path | None) -> Any:
    """Adds `RefineService` to a server."""
    from editcritic.plugin.editing import default_journal_path
    from editcritic.plugin.refine_service import RefineService
    from editcritic.refine.journal import Journal
    from editcritic.v1 import refine_pb2, refine_pb2_grpc

    kept = Journal(journal or default_journal_path())

    def add(hosts: Any, server: Any) -> str:
        service = RefineService(hosts, engines, kept)
        refine_pb2_grpc.add_RefineServiceServicer_to_server(service, server)
        name: str = refine_pb2.DESCRIPTOR.services_by_name["RefineService"].full_name
        return name

    return add
