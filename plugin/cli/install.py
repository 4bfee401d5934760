"""`editcritic install`: plug-ins for editors, one command each."""

from __future__ import annotations

import typer

from editcritic.plugin.cli.install_gimp import install_gimp
from editcritic.plugin.cli.install_krita import install_krita
from editcritic.plugin.comfyui.installing import comfyui

__all__ = ["install"]

install = typer.Typer(
    help="Put a plug-in into an editor, bring it up to date, or take it out.", no_args_is_help=True
)


install.command("gimp")(install_gimp)
install.command("krita")(install_krita)
install.command("comfyui")(comfyui)
