"""Every dependency that the package declares is pinned to a version that the tests passed with."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = dict(
    line.lower().split("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
# Extras that the tests do not install, and what only an older Python needs.
NOT_TESTED = {"aiohttp", "flask", "litserve", "tomli"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED_NAMES = {canonical(name): version for name, version in PINNED.items()}


def declared() -> set[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {canonical(re.split(r"[\[<>=;~! ]", line, maxsplit=1)[0]) for group in groups for line in group}
    return names - {"editcritic"} - NOT_TESTED


def test_what_is_declared_is_pinned() -> None:
    assert declared() - PINNED_NAMES.keys() == set()


def test_pins_are_exact() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.+]*", version) for version in PINNED.values())


@pytest.mark.parametrize("name", ["grpcio", "protobuf", "pillow", "numpy", "safetensors", "uvicorn", "h11"])
def test_what_strangers_bytes_meet_is_the_pinned_version(name: str) -> None:
    """The libraries that take bytes of strangers apart are tested in the version that is pinned."""
    assert metadata.version(name) == PINNED_NAMES[name]
