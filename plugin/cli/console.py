"""Where commands print, and how their errors end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import typer
from rich.console import Console

from editcritic.v1.errors import EditCriticError, Incompatible, InvalidInput, NotFound, ServerUnavailable

__all__ = [
    "BAD_INPUT",
    "BELOW",
    "FAULT",
    "NO_SERVER",
    "PARTLY",
    "command",
    "exit_code",
    "fail",
    "naming_files",
    "stderr",
    "stdout",
]

FAULT, BAD_INPUT, NO_SERVER, PARTLY, BELOW = 1, 2, 3, 4, 5
"""Exit codes; `editcritic.plugin.cli` says what they mean."""

# Results go to stdout and nothing else does, so that it can be piped.
stdout = Console(highlight=False, soft_wrap=False)
stderr = Console(stderr=True, highlight=False)

_Arguments = ParamSpec("_Arguments")


def command(function: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """A command whose errors are one line and an exit code instead of a traceback."""

    @wraps(function)
    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except EditCriticError as error:
            fail(str(error), exit_code(error))
        except OSError as error:
            fail(f"{error.filename or 'a file'}: {error.strerror or error}", BAD_INPUT)
        except KeyboardInterrupt:
            fail("stopped", 130)

    return run


def exit_code(error: EditCriticError) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, (InvalidInput, NotFound)):
        return BAD_INPUT
    if isinstance(error, (ServerUnavailable, Incompatible)):
        return NO_SERVER
    return FAULT


def fail(message: str, code: int) -> NoReturn:
    """Print one line and end the process."""
    stderr.print(f"editcritic: {message}", style="red", markup=False)
    raise typer.Exit(code)


@contextmanager
def naming_files(files: Mapping[str, Path | None]) -> Iterator[None]:
    """Put the file's name before an error of a request's field.

    Args:
        files: path of the field, for example ``edit.source``, to the file that it came from.
    """
    try:
        yield
    except InvalidInput as error:
        path: Any = files.get(error.field)
        if path is None:
            raise
        raise type(error)(f"{path}: {error.message}", reason=error.reason, field=error.field) from error
