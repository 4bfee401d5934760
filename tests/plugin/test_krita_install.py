"""`editcritic install krita`: what it puts where, and that it takes away no more than that."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from editcritic.plugin.cli.app import app
from editcritic.plugin.krita_install import Installation, krita_folder, kritarc_path

DOCKER = Path(__file__).parents[2] / "plugin" / "krita"
KRITARC = "[%General]\nfoo=1\nwidget\\state=A=B\n\n[python]\nenable_other=true\n\n[theme]\nTheme=Krita dark\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str, answer: str | None = None) -> str:
    result = CliRunner().invoke(app, ["install", "krita", *arguments], input=answer)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_docker_lands_in_krita_s_folder_and_is_switched_on(home: Path) -> None:
    output = run("--enable")
    package = home / ".local/share/krita/pykrita/editcritic_krita"
    assert (package / "docker.py").exists()
    entry = package.with_suffix(".desktop").read_text()
    assert "X-KDE-Library=editcritic_krita" in entry
    assert (home / ".config/kritarc").read_text() == "[python]\nenable_editcritic_krita=true\n"
    command = json.loads((package / "installed.json").read_text())["server_command"]
    assert command[0] == sys.executable
    assert "--http" in command
    assert "Settings > Dockers > editcritic" in " ".join(output.split())


def test_krita_s_settings_keep_every_other_line(home: Path) -> None:
    kritarc = home / ".config/kritarc"
    kritarc.parent.mkdir()
    kritarc.write_text(KRITARC)
    run("--enable")
    assert kritarc.read_text().splitlines() == [
        "[%General]", "foo=1", "widget\\state=A=B", "", "[python]", "enable_editcritic_krita=true", "enable_other=true",
        "", "[theme]", "Theme=Krita dark",
    ]  # fmt: skip
    run("--enable")
    assert kritarc.read_text().count("enable_editcritic_krita") == 1
    run("--remove")
    assert kritarc.read_text() == KRITARC


def test_settings_are_not_touched_without_consent(home: Path) -> None:
    output = run(answer="n\n")
    assert not (home / ".config/kritarc").exists()
    assert "Python Plugin Manager" in output
    run(answer="y\n")
    assert "enable_editcritic_krita=true" in (home / ".config/kritarc").read_text()


def test_a_dry_run_changes_nothing(home: Path) -> None:
    output = run("--dry-run")
    assert "would copy the docker" in output
    assert list(home.iterdir()) == []


def test_a_newer_docker_replaces_an_older_one_whole(home: Path) -> None:
    run("--no-enable", "--dest", str(home / "resources"))
    package = home / "resources/pykrita/editcritic_krita"
    (package / "left_over.py").touch()
    run("--no-enable", "--dest", str(home / "resources"))
    assert not (package / "left_over.py").exists()


def test_removal_leaves_nothing_and_may_be_repeated(home: Path) -> None:
    run("--enable")
    neighbour = home / ".local/share/krita/pykrita/other.desktop"
    neighbour.touch()
    run("--remove")
    assert list(neighbour.parent.iterdir()) == [neighbour]
    assert "nothing to do" in run("--remove")


@pytest.mark.parametrize(
    ("platform", "end"),
    [
        ("linux", ".local/share/krita"),
        ("darwin", "Library/Application Support/krita"),
        ("win32", "Roaming/krita"),
    ],
)
def test_every_system_has_its_folder(
    platform: str, end: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPDATA", str(home / "Roaming"))
    assert krita_folder(platform).as_posix().endswith(end)
    assert kritarc_path(platform).name == "kritarc"


def test_a_fresh_installation_says_what_it_did(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "k", tmp_path / "kritarc")
    installation.install(enable=True)
    assert len(installation.done) == 2


STANDARD = sys.stdlib_module_names | {"krita", "__future__"}


@pytest.mark.parametrize("file", sorted(DOCKER.glob("*.py")), ids=lambda file: file.name)
def test_the_docker_needs_nothing_but_krita_and_the_standard_library(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= STANDARD
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] in STANDARD
