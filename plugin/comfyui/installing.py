"""`editcritic install comfyui`: the node pack into a ComfyUI's `custom_nodes`, and out again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from editcritic.plugin.cli.console import command, stdout
from editcritic.v1.errors import InvalidInput

__all__ = ["FOLDER", "comfyui", "install", "python_of", "remove"]

FOLDER = "comfyui-editcritic"
"""Name below `custom_nodes`. With a hyphen it can never be imported in the place of the package itself."""

_PACK = Path(__file__).parent
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "installing.py")
_MARKS = ("nodes.py", "folder_paths.py", "custom_nodes")
_PYTHONS = (
    "venv/bin/python",
    ".venv/bin/python",
    "venv/Scripts/python.exe",
    ".venv/Scripts/python.exe",
    "../venv/bin/python",
    "../.venv/bin/python",
    "../python_embeded/python.exe",
)


@command
def comfyui(
    path: Annotated[Path, typer.Argument(help="Folder of ComfyUI, the one with main.py.")],
    link: Annotated[
        bool, typer.Option("--link", help="Link to this installation instead of copying it.")
    ] = False,
    remove_it: Annotated[bool, typer.Option("--remove", help="Take the node pack out again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
) -> None:
    """Put the node pack into a ComfyUI; a second time brings it up to date."""
    steps = remove(path, dry_run=dry_run) if remove_it else install(path, link=link, dry_run=dry_run)
    for line in steps:
        stdout.print(line, markup=False, soft_wrap=True)


def install(path: Path, *, link: bool = False, dry_run: bool = False) -> Iterator[str]:
    """Put the pack in place of any earlier one; yields what is done, and what to do next.

    Raises: InvalidInput when the path is no ComfyUI, or something that is not ours has the pack's name.
    """
    target = _target(path)
    if target.is_symlink() or target.exists():
        yield f"replaces {target}"
    yield f"{'links' if link else 'copies'} {_PACK} to {target}"
    if not dry_run:
        _clear(target)
        if link:
            target.symlink_to(_PACK, target_is_directory=True)
        else:
            shutil.copytree(_PACK, target, ignore=_LEFT_OUT)
    yield "Next:"
    yield f"  1. {python_of(path)} -m pip install 'editcritic[comfyui]'"
    yield "  2. start ComfyUI again; the nodes are under `editcritic`, example workflows under Browse Templates"
    yield "  3. editcritic serve    (or a Critic Server node set to `embedded`)"


def remove(path: Path, *, dry_run: bool = False) -> Iterator[str]:
    """Take the pack out; yields what is done. Raises: InvalidInput as `install`."""
    target = _target(path)
    if not target.is_symlink() and not target.exists():
        yield f"nothing to remove: there is no {target}"
        return
    yield f"removes {target}"
    if not dry_run:
        _clear(target)


def python_of(path: Path) -> str:
    """The Python that this ComfyUI runs with, as far as its folders tell."""
    found = [path / each for each in _PYTHONS if (path / each).exists()]
    # Not resolved: a virtual environment is known by the path of its link.
    return os.path.abspath(found[0]) if found else "python"


def _target(path: Path) -> Path:
    missing = [name for name in _MARKS if not (path / name).exists()]
    if missing:
        raise InvalidInput(
            f"{path} is no ComfyUI: it has no {', no '.join(missing)}; expected the folder with main.py in it"
        )
    target = path / "custom_nodes" / FOLDER
    if target.exists() and not target.is_symlink() and not _is_ours(target):
        raise InvalidInput(f"{target} is there and not ours; move it away first")
    return target


def _is_ours(target: Path) -> bool:
    description = target / "pyproject.toml"
    return description.is_file() and 'name = "editcritic"' in description.read_text(encoding="utf-8")


def _clear(target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)
