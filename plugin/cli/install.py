"""`editcritic install`: plug-ins for editors, one command each."""

from __future__ import annotations

import typer

from editcritic.plugin.cli.install_gimp import install_gimp

__all__ = ["install"]

install = typer.Typer(
    help="Put a plug-in into an editor, bring it up to date, or take it out.", no_args_is_help=True
)


@install.callback()
def _group() -> None:
    """Keeps the editor's name a part of the command while there is one editor only."""


install.command("gimp")(install_gimp)
