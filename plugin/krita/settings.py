"""What the user has set. Krita keeps it as texts in its own settings file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

__all__ = ["DEFAULT_ADDRESS", "Settings", "installed_command", "load_settings", "store_settings"]

DEFAULT_ADDRESS = "127.0.0.1:50052"
_INSTALLED = Path(__file__).with_name("installed.json")


class Settings(NamedTuple):
    """Typed settings of the docker.

    Attributes:
        address: host:port of the server. token: bearer token, if it asks for one.
        candidate_count: N, 1 to 16. target_score: score at which to stop, 0 to 100; it also colours the badges.
        repair_rounds: 0 to 4. time_limit_s: 0 for none. engine: empty for the server's default.
        seed: of the first candidate; -1 for a new one each time. server_command: starts a server, as a JSON list;
        empty for the one that was installed with the docker.
    """

    address: str = DEFAULT_ADDRESS
    token: str = ""
    candidate_count: int = 4
    target_score: int = 80
    repair_rounds: int = 1
    time_limit_s: int = 120
    engine: str = ""
    seed: int = -1
    server_command: str = ""


_RANGES = {
    "candidate_count": (1, 16),
    "target_score": (0, 100),
    "repair_rounds": (0, 4),
    "time_limit_s": (0, 3600),
    "seed": (-1, 2**31 - 1),
}


def load_settings(read: Callable[[str, str], str]) -> Settings:
    """Settings from texts. read: (name, default) to text. What is no number or out of range gets the default."""
    values: Dict[str, Any] = {}
    for name, default in Settings()._asdict().items():
        text = read(name, str(default))
        values[name] = text if isinstance(default, str) else _number(name, text, default)
    return Settings(**values)


def store_settings(settings: Settings, write: Callable[[str, str], Any]) -> None:
    """Hand every setting to `write` as (name, text)."""
    for name, value in settings._asdict().items():
        write(name, str(value))


def _number(name: str, text: str, default: int) -> int:
    low, high = _RANGES[name]
    try:
        return int(text) if low <= int(text) <= high else default
    except ValueError:
        return default


def installed_command(settings: Settings, installed: Path = _INSTALLED) -> List[str]:
    """The command that starts a server: the user's own, or the one that `editcritic install krita` wrote down.

    Raises: ValueError when there is none, or it is no list of texts.
    """
    try:
        command = json.loads(settings.server_command or installed.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            "no command is known that starts a server: run `editcritic install krita` again"
        ) from error
    if isinstance(command, dict):
        command = command.get("server_command")
    if not isinstance(command, list) or not command or not all(isinstance(each, str) for each in command):
        raise ValueError("the command that starts a server must be a JSON list of texts")
    return command
