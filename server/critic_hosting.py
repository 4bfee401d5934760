"""Where a critic's model lives: in the server or in a process of its own, with which Python, for how long.

As text it is `NAME?isolation=process&python=/opt/q/bin/python&memory=24GiB&sleep_after=600`; in a file of settings it
may be a table, `[hosting.NAME]`. It is never part of what a client can send: who names an interpreter runs programs.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

__all__ = ["IN_SERVER", "CriticHosting", "hosting_texts", "parse_hosting"]

_UNITS: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base ** (power + 1)
    for power, letter in enumerate("KMGT")
    for suffix, base in (("iB", 1024), ("B", 1000))
}
_OPTIONS = ("isolation", "python", "memory", "sleep_after", "hang_after")
_OF_PROCESSES = ("python", "memory", "hang_after")


@dataclass(frozen=True)
class CriticHosting:
    """How one critic is hosted.

    Attributes:
        isolation: "thread" for threads of the server, "process" for a process of its own.
        python: the interpreter of that process; by default the server's.
        memory_bytes: what the process may hold, without files that it maps; 0 for no bound.
        sleep_after_s: seconds without work after which the model is released until the next edit; 0 for never.
        hang_after_s: seconds that the process gets to come back once nobody waits for its answer any more; past
            them it is ended.
    """

    isolation: Literal["thread", "process"] = "thread"
    python: str = sys.executable
    memory_bytes: int = 0
    sleep_after_s: float = 0.0
    hang_after_s: float = 30.0


IN_SERVER = CriticHosting()


def parse_hosting(texts: Sequence[str]) -> dict[str, CriticHosting]:
    """Critics' names and how each is hosted.

    Args:
        texts: each `NAME?option=value&option=value`; a value may be percent-encoded.

    Raises:
        ValueError: a name that comes twice, an option or a value that there is none of, with what it must be.
    """
    found: dict[str, CriticHosting] = {}
    for text in texts:
        name, asked, query = text.partition("?")
        if not name or not asked:
            raise ValueError(f"{text!r} must be NAME?option=value, as in q_align?isolation=process")
        if name in found:
            raise ValueError(f"{name!r} comes twice; give its options at one place")
        found[name] = _read(name, query)
    return found


def hosting_texts(tables: Mapping[str, Any], folder: Path) -> list[str]:
    """The texts of a file's tables `[hosting.NAME]`.

    Args:
        tables: by critic, option and value as TOML has them.
        folder: of the file, which a relative path of an interpreter starts from.

    Raises:
        ValueError: something else than a table of texts and numbers.
    """
    return [f"{name}?{_query(name, table, folder)}" for name, table in tables.items()]


def _query(name: str, table: Any, folder: Path) -> str:
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f"hosting.{name} must be a table with some of {', '.join(_OPTIONS)}")
    for option, value in table.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"hosting.{name}.{option} is {value!r}; it must be text or a number")
    told = {option: str(value) for option, value in table.items()}
    if os.sep in told.get("python", ""):
        told["python"] = str(folder / Path(told["python"]).expanduser())
    return "&".join(f"{option}={quote(value, safe='/ ')}" for option, value in told.items())


def _read(name: str, query: str) -> CriticHosting:
    pairs = [pair.partition("=") for pair in query.split("&")]
    given = {option: unquote(value) for option, _, value in pairs}
    if len(given) < len(pairs) or not all(found and value for _, found, value in pairs):
        raise ValueError(f"options of {name} are option=value, each once, not {query!r}")
    unknown = [option for option in given if option not in _OPTIONS]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; known are {', '.join(_OPTIONS)}")
    isolation = given.get("isolation", "thread")
    if isolation not in ("thread", "process"):
        raise ValueError(f"isolation of {name} is 'thread' or 'process', not {isolation!r}")
    if isolation == "thread" and (odd := [option for option in _OF_PROCESSES if option in given]):
        raise ValueError(f"{odd[0]} of {name} needs isolation = 'process'")
    return CriticHosting(
        "process" if isolation == "process" else "thread",
        _interpreter(name, given["python"]) if "python" in given else sys.executable,
        _byte_count(name, given.get("memory", "0")),
        _seconds(name, "sleep_after", given.get("sleep_after", "0")),
        _seconds(name, "hang_after", given.get("hang_after", "30")),
    )


def _interpreter(name: str, told: str) -> str:
    found = shutil.which(os.path.expanduser(told))
    if found is None:
        raise ValueError(f"python of {name} is {told!r}, which is no program that can be run here")
    return os.path.abspath(found)


def _byte_count(name: str, told: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", told)
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"memory of {name} is bytes as in 24GiB, 800MB or 1073741824, not {told!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def _seconds(name: str, option: str, told: str) -> float:
    try:
        seconds = float(told)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{option} of {name} is seconds from 0, not {told!r}")
    return seconds
