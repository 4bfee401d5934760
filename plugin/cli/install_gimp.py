"""`editcritic install gimp`: menu entries for GIMP 2.10."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.gimp.installing import remove_script, scripts_folder, write_script

__all__ = ["install_gimp"]


@command
def install_gimp(
    folder: Annotated[
        Path | None, typer.Option(help="Folder of GIMP's scripts; by default the user's own for GIMP 2.10.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out instead.")] = False,
) -> None:
    """Put the menu entries of editcritic into GIMP 2.10."""
    where = folder or scripts_folder()
    if remove:
        told = "removed from" if remove_script(where) else "there was nothing in"
        stdout.print(f"{told} {where}", markup=False, soft_wrap=True)
        return
    stdout.print(f"installed: {write_script(where)}", markup=False, soft_wrap=True)
    stdout.print("Start GIMP again, or Filters > Script-Fu > Refresh Scripts; then Filters > editcritic.")
