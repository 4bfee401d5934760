"""The settings of a server from flags, the environment and a file, and where each came from.

A flag beats the environment, which beats the file, which beats the default. Names and types are those of
`ServerSettings`; `setting_keys` makes flags and variables of them.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editcritic.server.critic_hosting import hosting_texts
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.server.setting_keys import ENVIRONMENT_PREFIX, Key, setting_keys
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.server.tokens import check_secret_file
from editcritic.v1.images import ImageLimits

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CONFIG_VARIABLE", "Configuration", "add_flags", "read_configuration"]

CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
"""Names the file where no flag does."""
_GROUPS: Mapping[str, type[Any]] = {"images": ImageLimits, "ray": RaySettings}


@dataclass(frozen=True)
class Configuration:
    """Settings with their origin.

    Attributes:
        values: each setting's value and the words for where it came from, by key.
    """

    values: Mapping[Key, tuple[Any, str]]

    def settings(self) -> ServerSettings:
        """The settings themselves.

        Raises:
            SettingsError: they contradict each other, or a secret's file cannot be used.
        """
        fields: dict[str, Any] = {}
        grouped: dict[str, dict[str, Any]] = {group: {} for group in _GROUPS}
        for key, (value, _) in self.values.items():
            place = grouped[key.field[0]] if len(key.field) > 1 else fields
            place[key.field[-1]] = _secret(value) if key.is_secret and value is not None else value
        try:
            fields |= {group: kind(**grouped[group]) for group, kind in _GROUPS.items()}
        except ValueError as error:
            raise SettingsError(str(error)) from error
        return ServerSettings(**fields)

    def as_toml(self) -> str:
        """Every value with its origin as a comment; a file with this text means the same."""
        lines = ["# a flag beats the environment, which beats the file, which beats the default"]
        table = ""
        # A TOML table swallows whatever follows it, so groups stand last.
        for key, (value, source) in sorted(self.values.items(), key=lambda item: item[0].field[:-1]):
            group = ".".join(key.field[:-1])
            if group != table:
                lines += ["", f"[{group}]"]
                table = group
            lines.append(f"{key.leaf} = {_as_toml(value)}  # {source}")
        return "\n".join(lines)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting, and `--config`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"TOML file of settings ({CONFIG_VARIABLE})"
    )
    for key in setting_keys():
        shown = "" if key.default in (None, ()) else f" (default: {_as_toml(key.default)})"
        told = f"{key.help}{shown}".replace("%", "%%")
        if key.kind is bool:
            parser.add_argument(key.flag, dest=key.in_file, action=argparse.BooleanOptionalAction, help=told)
            continue
        metavar = key.leaf.rsplit("_", 1)[-1].upper()
        parser.add_argument(key.flag, dest=key.in_file, metavar=metavar, help=told)
        if key.optional and key.default is not None:
            none = key.flag.replace("--", "--no-", 1)
            parser.add_argument(none, dest=key.in_file, action="store_const", const="", help="none of them")


def read_configuration(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Configuration:
    """Merge the sources.

    Args:
        arguments: as a parser with `add_flags` gives them.
        environment: the process's, or an empty one to leave it out.

    Raises:
        SettingsError: a value of the wrong kind or a name that nobody knows, with the source and the name.
    """
    keys = setting_keys()
    values: dict[Key, tuple[Any, str]] = {key: (key.default, "default") for key in keys}
    named = arguments.config or environment.get(CONFIG_VARIABLE)
    if named:
        values |= _from_file(keys, Path(named).expanduser())
    values |= _from_environment(keys, environment)
    values |= _from_flags(keys, arguments)
    return Configuration(values)


def _from_file(keys: Iterable[Key], path: Path) -> dict[Key, tuple[Any, str]]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"the file of settings {path} cannot be read: {error}") from error
    given = dict(_flattened(_with_hosting(table, path)))
    by_name = {key.in_file: key for key in keys}
    _check_known(given, by_name, f"file {path}")
    found = {}
    for name, value in given.items():
        key, source = by_name[name], f"file {path}"
        try:
            found[key] = (key.from_toml(value, path.parent), source)
        except ValueError as error:
            raise SettingsError(f"{source}: {name} is {value!r}; it must be {error}") from error
    return found


def _with_hosting(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Tables of critics, which have names of their own, as the texts that the setting consists of."""
    hosting = table.get("hosting")
    if not isinstance(hosting, dict):
        return table
    try:
        return {**table, "hosting": hosting_texts(hosting, path.parent)}
    except ValueError as error:
        raise SettingsError(f"file {path}: {error}") from error


def _flattened(table: Mapping[str, Any], group: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value


def _from_environment(keys: Iterable[Key], environment: Mapping[str, str]) -> dict[Key, tuple[Any, str]]:
    by_name = {key.variable: key for key in keys}
    given = {name: value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)}
    given.pop(CONFIG_VARIABLE, None)
    _check_known(given, by_name, "environment")
    return {
        by_name[name]: (_read(by_name[name], text, f"environment: {name}"), f"environment {name}")
        for name, text in given.items()
    }


def _from_flags(keys: Iterable[Key], arguments: argparse.Namespace) -> dict[Key, tuple[Any, str]]:
    found = {}
    for key in keys:
        given = getattr(arguments, key.in_file)
        if given is not None:
            value = given if isinstance(given, bool) else _read(key, given, f"flag {key.flag}")
            found[key] = (value, f"flag {key.flag}")
    return found


def _read(key: Key, text: str, source: str) -> Any:
    try:
        return key.from_text(text)
    except ValueError as error:
        raise SettingsError(f"{source} is {text!r}; it must be {error}") from error


def _check_known(given: Iterable[str], known: Iterable[str], source: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), 1)
            raise SettingsError(
                f"{source}: there is no setting {name!r}{f', did you mean {near[0]!r}?' if near else ''}"
            )


def _secret(path: Path) -> str:
    check_secret_file(path, may_be_read=True)
    secret = path.read_text().strip()
    if not secret:
        raise SettingsError(f"the token file {path} is empty")
    return secret


def _as_toml(value: Any) -> str:
    """A value as TOML; JSON's strings, numbers and lists are TOML's too."""
    if isinstance(value, Path):
        value = str(value)
    return json.dumps("" if value is None else value)
