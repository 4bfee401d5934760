"""Puts the menu entries into a person's GIMP 2.10."""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path

__all__ = ["SCRIPT", "remove_script", "scripts_folder", "write_script"]

SCRIPT = "editcritic.scm"


def scripts_folder() -> Path:
    """Where GIMP 2.10 looks for a person's own scripts."""
    given = os.environ.get("GIMP2_DIRECTORY")
    if given:
        return Path(given) / "scripts"
    if sys.platform == "win32":
        settings = Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming")
    elif sys.platform == "darwin":
        settings = Path.home() / "Library/Application Support"
    else:
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return settings / "GIMP/2.10/scripts"


def write_script(folder: Path) -> Path:
    """Write the script there, over an older one; the folder is made where there is none. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SCRIPT
    path.write_bytes(resources.files("editcritic.plugin.gimp").joinpath(SCRIPT).read_bytes())
    return path


def remove_script(folder: Path) -> bool:
    """Take it out. False when there was none."""
    path = folder / SCRIPT
    was_there = path.exists()
    path.unlink(missing_ok=True)
    return was_there
