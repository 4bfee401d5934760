"""`editcritic install comfyui`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from editcritic.plugin.cli.app import app
from editcritic.plugin.comfyui.installing import FOLDER


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder that looks like a ComfyUI with a virtual environment."""
    for name in ("nodes.py", "folder_paths.py", "venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "custom_nodes").mkdir()
    return tmp_path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["install", "comfyui", *map(str, arguments)])
    return result.exit_code, result.output + (result.stderr if result.stderr_bytes else "")


def test_it_copies_the_pack_and_says_what_comes_next(program: Path) -> None:
    code, told = run(program)
    pack = program / "custom_nodes" / FOLDER
    assert code == 0
    assert (pack / "__init__.py").is_file()
    assert (pack / "web" / "editcritic.js").is_file()
    assert not (pack / "installing.py").exists()
    assert f"{program}/venv/bin/python -m pip install 'editcritic[comfyui]'" in told
    assert not FOLDER.isidentifier(), "so it cannot be imported in place of the package"


def test_a_second_time_brings_it_up_to_date(program: Path) -> None:
    run(program)
    pack = program / "custom_nodes" / FOLDER
    (pack / "left over.py").touch()
    code, told = run(program, "--link")
    assert code == 0
    assert f"replaces {pack}" in told
    assert pack.is_symlink()
    run(program)
    assert not pack.is_symlink()
    assert not (pack / "left over.py").exists()


def test_it_is_taken_out_again(program: Path) -> None:
    run(program, "--link")
    code, _ = run(program, "--remove")
    assert code == 0
    assert list((program / "custom_nodes").iterdir()) == []
    code, told = run(program, "--remove")
    assert code == 0
    assert "nothing to remove" in told


@pytest.mark.parametrize("more", [[], ["--remove"]])
def test_a_dry_run_changes_nothing(program: Path, more: list[str]) -> None:
    if more:
        run(program)
    before = sorted(program.rglob("*"))
    code, told = run(program, "--dry-run", *more)
    assert code == 0
    assert FOLDER in told
    assert sorted(program.rglob("*")) == before


def test_what_is_no_comfyui_is_refused(tmp_path: Path) -> None:
    code, told = run(tmp_path)
    assert code == 2
    assert "is no ComfyUI" in " ".join(told.split())


def test_a_folder_that_is_not_ours_is_left_alone(program: Path) -> None:
    other = program / "custom_nodes" / FOLDER
    other.mkdir()
    (other / "precious.py").touch()
    code, told = run(program)
    assert code == 2
    assert "not ours" in " ".join(told.split())
    assert (other / "precious.py").exists()
