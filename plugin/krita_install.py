"""Puts the docker into Krita's own folder and switches it on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PACKAGE", "Installation", "krita_folder", "kritarc_path"]

PACKAGE = "editcritic_krita"
"""Name of the docker's package within Krita's `pykrita`."""

_SOURCE = Path(__file__).with_name("krita")
_SWITCH = f"enable_{PACKAGE}"
_SERVER = "from editcritic.plugin.cli import main; main()"


def krita_folder(platform: str = sys.platform) -> Path:
    """Where Krita keeps a user's resources on this system; its `pykrita` holds plug-ins."""
    if platform == "win32":
        return Path(os.environ.get("APPDATA", str(Path.home()))) / "krita"
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "krita"
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "krita"


def kritarc_path(platform: str = sys.platform) -> Path:
    """Krita's settings file on this system."""
    if platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "kritarc"
    if platform == "darwin":
        return Path.home() / "Library" / "Preferences" / "kritarc"
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "kritarc"


@dataclass(frozen=True)
class Installation:
    """The docker in one Krita.

    folder: Krita's resource folder. kritarc: its settings file. is_dry: say what would be done and change nothing.
    done: what was done, a line each.
    """

    folder: Path
    kritarc: Path
    is_dry: bool = False
    done: list[str] = field(default_factory=list)

    @property
    def package(self) -> Path:
        """Where the docker's code goes."""
        return self.folder / "pykrita" / PACKAGE

    @property
    def entry(self) -> Path:
        """The file by which Krita finds it."""
        return self.package.with_suffix(".desktop")

    def install(self, enable: bool) -> None:
        """Copy the docker, replacing an older one. enable: also switch it on in Krita's settings."""
        if self._does(f"copy the docker to {self.package}"):
            if self.package.exists():
                shutil.rmtree(self.package)
            ignored = shutil.ignore_patterns("__pycache__", "*.desktop")
            shutil.copytree(_SOURCE, self.package, ignore=ignored)
            shutil.copyfile(_SOURCE / self.entry.name, self.entry)
            (self.package / "installed.json").write_text(json.dumps(self._remembered()), encoding="utf-8")
        if enable and self._does(f"switch it on in {self.kritarc}"):
            self._set_switch("true")

    def remove(self) -> None:
        """Take the docker out of Krita again; what is not there is no fault."""
        if self.package.exists() and self._does(f"remove {self.package}"):
            shutil.rmtree(self.package)
        if self.entry.exists() and self._does(f"remove {self.entry}"):
            self.entry.unlink()
        is_switched = any(line.startswith(_SWITCH + "=") for line in self._lines())
        if is_switched and self._does(f"switch it off in {self.kritarc}"):
            self._set_switch(None)

    def _does(self, what: str) -> bool:
        self.done.append(what)
        return not self.is_dry

    @staticmethod
    def _remembered() -> dict[str, list[str]]:
        """The command by which the docker starts a server with this very Python."""
        flags = ["serve", "--embedded", "--http", "127.0.0.1:0", "--port", "0", "--engine", "tabletop"]
        return {"server_command": [sys.executable, "-c", _SERVER, *flags]}

    def _lines(self) -> list[str]:
        return self.kritarc.read_text(encoding="utf-8").splitlines() if self.kritarc.exists() else []

    def _set_switch(self, value: str | None) -> None:
        """Change one line and leave every other as it is: the file belongs to Krita."""
        lines = [line for line in self._lines() if not line.startswith(_SWITCH + "=")]
        if value is not None:
            if "[python]" not in lines:
                lines += ["", "[python]"] if lines else ["[python]"]
            lines.insert(lines.index("[python]") + 1, f"{_SWITCH}={value}")
        self.kritarc.parent.mkdir(parents=True, exist_ok=True)
        self.kritarc.write_text("\n".join(lines) + "\n", encoding="utf-8")
