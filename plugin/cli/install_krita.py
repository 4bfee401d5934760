"""`editcritic install krita`: the docker, into Krita's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.krita_install import Installation, krita_folder, kritarc_path

__all__ = ["install_krita"]

_NEXT = """Now start Krita, and open the docker: Settings > Dockers > editcritic.
The docker looks for a server at 127.0.0.1:50052: editcritic serve --http 127.0.0.1:50052 --engine tabletop
or press its button "Start a server"."""
_BY_HAND = (
    "Switch it on in Krita: Settings > Configure Krita > Python Plugin Manager > editcritic; then restart it."
)
_FLATPAK = Path(".var/app/org.kde.krita")


@command
def install_krita(
    dest: Annotated[
        Path | None,
        typer.Option("--dest", help="Krita's resource folder; by default the user's own."),
    ] = None,
    enable: Annotated[
        bool | None,
        typer.Option("--enable/--no-enable", help="Switch it on in Krita's settings. Asks, if not given."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take it out again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Put the docker into Krita, or a newer one in place of an older."""
    installation = Installation((dest or krita_folder()).expanduser().resolve(), kritarc_path(), dry_run)
    if remove:
        installation.remove()
    else:
        enable = enable if enable is not None else _consent(dry_run)
        installation.install(enable)
    _tell(installation, remove, bool(enable))


def _consent(is_dry: bool) -> bool:
    return is_dry or typer.confirm("Switch the docker on in Krita's settings (kritarc)?", default=True)


def _tell(installation: Installation, is_removal: bool, is_enabled: bool) -> None:
    for line in installation.done or ["the docker is not in this Krita: nothing to do"]:
        stdout.print(("would " if installation.is_dry else "") + line, soft_wrap=True)
    if is_removal:
        return
    if not is_enabled:
        stdout.print(_BY_HAND, soft_wrap=True)
    flatpak = Path.home() / _FLATPAK / "data" / "krita"
    if flatpak.exists() and flatpak.resolve() != installation.folder:
        stdout.print(f"There is a Krita from Flatpak as well: --dest {flatpak}", soft_wrap=True)
    stdout.print(_NEXT, soft_wrap=True)
