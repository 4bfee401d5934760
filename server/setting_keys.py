"""What each setting is called as a flag, in the environment and in a file, made of `ServerSettings`' own fields."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from editcritic.server.settings import ServerSettings

__all__ = ["ENVIRONMENT_PREFIX", "Key", "setting_keys"]

ENVIRONMENT_PREFIX = "EDITCRITIC_SERVE_"
"""Before every setting in the environment; without SERVE it is the client's: EDITCRITIC_TLS_CERT is its certificate."""

_MAX_PORT = 65535
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Key:
    """One setting.

    Attributes:
        field: of `ServerSettings`; two names for one within a group, such as ("images", "max_pixels").
        kind: str, int, float, bool, Path, a tuple of str, or the words of a Literal.
        optional: whether it may be left empty, which is None.
        default: when nothing says otherwise.
        help: what the class says of it.
        is_secret: given as the file that holds it, so that it shows neither in a list of processes nor in print.
    """

    field: tuple[str, ...]
    kind: Any
    optional: bool
    default: Any
    help: str
    is_secret: bool

    @property
    def leaf(self) -> str:
        """The name within its group."""
        return self.field[-1].removesuffix("_path") + ("_file" if self.is_secret else "")

    @property
    def in_file(self) -> str:
        """The name in a TOML file: ``images.max_pixels``."""
        return ".".join((*self.field[:-1], self.leaf))

    @property
    def flag(self) -> str:
        """``--images-max-pixels``."""
        return "--" + re.sub("[._]", "-", self.in_file)

    @property
    def variable(self) -> str:
        """``EDITCRITIC_SERVE_IMAGES_MAX_PIXELS``."""
        return ENVIRONMENT_PREFIX + self.in_file.replace(".", "_").upper()

    def from_text(self, text: str) -> Any:
        """The value that a flag or a variable means.

        Raises:
            ValueError: what it must be instead.
        """
        if self.optional and not text:
            return None
        return self._checked(_reader(self.kind)(text))

    def from_toml(self, value: Any, folder: Path) -> Any:
        """The value that a file means.

        Args:
            value: as TOML has it.
            folder: of the file, which relative paths in it start from.

        Raises:
            ValueError: what it must be instead.
        """
        if self.optional and value == "":
            return None
        if not isinstance(value, _toml_types(self.kind)) or (isinstance(value, bool) != (self.kind is bool)):
            raise ValueError(_expected(self.kind))
        if self.kind is Path:
            return folder / Path(str(value)).expanduser()
        if isinstance(value, list):
            value = ",".join(map(str, value))
        return self.from_text(value) if isinstance(value, str) else self._checked(self.kind(value))

    def _checked(self, value: Any) -> Any:
        if isinstance(value, (int, float)) and not (0 <= value < math.inf):
            raise ValueError(f"{_expected(self.kind)} from 0")
        if self.leaf.endswith("port") and value > _MAX_PORT:
            raise ValueError(f"a port from 0 to {_MAX_PORT}")
        return value


def setting_keys() -> tuple[Key, ...]:
    """Every setting, in the order of the class."""
    return tuple(_keys_of(ServerSettings, ()))


def _keys_of(owner: type[Any], group: tuple[str, ...]) -> Iterator[Key]:
    hints, told = typing.get_type_hints(owner), _explained(owner)
    for field in dataclasses.fields(owner):
        kind, optional = _without_none(hints[field.name])
        if dataclasses.is_dataclass(kind):
            yield from _keys_of(typing.cast("type[Any]", kind), (*group, field.name))
            continue
        is_secret = bool(field.metadata.get("secret"))
        yield Key(
            (*group, field.name),
            Path if is_secret else kind,
            optional,
            _default(field),
            told.get(field.name, ""),
            is_secret,
        )


def _default(field: dataclasses.Field[Any]) -> Any:
    make: Callable[[], Any] | None = field.metadata.get("when_serving")
    if make is None and field.default_factory is not dataclasses.MISSING:
        make = field.default_factory
    return field.default if make is None else make()


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return kinds[0], True
    return hint, False


def _explained(owner: type[Any]) -> dict[str, str]:
    """What the docstring's Attributes say, a line for each."""
    _, _, section = (inspect.getdoc(owner) or "").partition("Attributes:\n")
    section = section.split("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


def _reader(kind: Any) -> Callable[[str], Any]:
    readers: dict[Any, Callable[[str], Any]] = {
        bool: _switch,
        Path: lambda text: Path(text).expanduser(),
        str: str,
    }
    if kind in (int, float):
        return partial(_number, kind)
    return readers.get(kind) or partial(_words if typing.get_origin(kind) is tuple else _one_of, kind)


def _number(kind: type[float], text: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(_expected(kind)) from None


def _switch(text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise ValueError(_expected(bool))
    return text.lower() in _YES


def _words(_kind: Any, text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _one_of(kind: Any, text: str) -> str:
    if text not in typing.get_args(kind):
        raise ValueError(_expected(kind))
    return text


def _toml_types(kind: Any) -> tuple[type, ...]:
    return {int: (int,), float: (int, float), bool: (bool,)}.get(
        kind, (list, str) if typing.get_origin(kind) is tuple else (str,)
    )


def _expected(kind: Any) -> str:
    told = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}
    if kind in told:
        return told[kind]
    return (
        "a list of names"
        if typing.get_origin(kind) is tuple
        else f"one of {', '.join(typing.get_args(kind))}"
    )
