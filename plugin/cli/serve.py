"""`editcritic serve`: a critic server in the foreground."""

from __future__ import annotations

import typer

from editcritic.plugin.cli.console import BAD_INPUT, fail

__all__ = ["PASS_THROUGH", "serve"]

PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
"""All flags are the server's own, so that they are written down once."""


def serve(context: typer.Context) -> None:
    """Run a critic server until Ctrl-C or SIGTERM; see `editcritic serve --help` for its flags."""
    try:
        from editcritic.server.__main__ import main
    except ModuleNotFoundError as error:
        fail(f"the server needs {error.name}. Install it: pip install 'editcritic[server]'", BAD_INPUT)
    raise typer.Exit(main(context.args))
