"""The rooms and their doors: who may import whom, what is public, what a wheel holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]


def source_files() -> list[tuple[str, Path]]:
    """(module name, file) of every module that we wrote."""
    return sorted(
        (".".join([package, *file.relative_to(ROOT / folder).with_suffix("").parts]), file)
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).rglob("*.py")
        if "_pb2" not in file.name
    )


MODULES = {name.removesuffix(".__init__"): file for name, file in source_files()}


def public_definitions(file: Path) -> set[str]:
    """Functions and classes that a module defines without an underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = ast.parse(file.read_text()).body
    return {node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")}


def declared_names(file: Path) -> set[str] | None:
    """What `__all__` says, read without importing; None when there is none."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_declared(name: str) -> None:
    defined, declared = public_definitions(MODULES[name]), declared_names(MODULES[name])
    assert defined <= (declared or set()), "public functions and classes belong into __all__"


def test_every_package_is_shipped() -> None:
    folders = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert folders == set(PACKAGES), "list new sub-packages in pyproject.toml, or wheels will miss them"


def test_there_is_no_package_init_so_nothing_happens_at_import() -> None:
    assert not list(ROOT.glob("editcritic/__init__.py"))
    assert importlib.import_module("editcritic").__file__ is None


def test_import_directions() -> None:
    checker = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([checker, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


BLOCK = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r} or name.startswith({rooms!r}):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import {module}
print(sorted(set(sys.modules) & {blocked!r}))
"""
HEAVY = {"torch", "diffusers", "transformers", "scipy", "skimage", "cv2", "rich", "typer", "grpc_health"}


@pytest.mark.parametrize(
    "module", ["editcritic.plugin.client", "editcritic.v1.images", "editcritic.v1.errors"]
)
def test_the_client_needs_nothing_but_its_base(module: str) -> None:
    rooms = ("editcritic.server", "editcritic.refine")
    program = BLOCK.format(blocked=HEAVY, rooms=rooms, module=module)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_registry_names_critics_that_exist() -> None:
    from editcritic.server.critics import CRITICS, load_critic
    from editcritic.v1.errors import InvalidInput

    with_own_weights = ("network", "evidence", "ensemble", "faces", "dummy")
    for name in CRITICS:
        if name not in with_own_weights:
            with pytest.raises(InvalidInput, match="comes without weights"):
                load_critic(name)
            continue
        critic = load_critic(name)
        assert critic.info.identity.name == name
        assert critic.info.identity.version
        assert critic.info.identity.score_meaning
        assert inspect.signature(critic.critique).parameters.keys() == {"tasks", "is_cancelled"}


def test_the_version_stands_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{PROJECT['project']['version']}]" in changelog


@pytest.mark.packaging
def test_the_wheel_holds_every_module_and_no_top_level_server(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, timeout=170)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    modules = {name.replace(".", "/") for name in MODULES}
    shipped = {name.removesuffix(".py").removesuffix("/__init__") for name in names if name.endswith(".py")}
    assert modules <= shipped
    weights = {
        file.relative_to(ROOT / "refine")
        for file in (ROOT / "refine/tabletop/weights").rglob("*")
        if file.is_file()
    }
    expected = {f"editcritic/refine/{path.as_posix()}" for path in weights} | {
        "editcritic/plugin/natural_statistics/statistics.npz",
        "editcritic/plugin/oracle/oracle-1.safetensors",
        "editcritic/plugin/oracle/oracle-2.safetensors",
    }
    assert len(weights) > 5
    assert expected <= set(names), "what was trained is part of the package"
    assert {name.split("/")[0] for name in names} <= {"editcritic", names[-1].split("/")[0]}


OLDEST = [
    "grpcio==1.51.1",
    "protobuf==3.20.3",
    "googleapis-common-protos==1.56.4",
    "numpy==1.24.2",
    "pillow==10.1.0",
]
ROUND_TRIP = """
import numpy
from editcritic.v1 import critic_pb2, critic_pb2_grpc, refine_pb2, refine_pb2_grpc, images, errors
sent = critic_pb2.Candidate(candidate_id="a", image=images.encode_image(numpy.zeros((9, 9, 3), "uint8")))
assert critic_pb2.Candidate.FromString(sent.SerializeToString()) == sent
status = errors.ImageError("m", reason=critic_pb2.ERROR_REASON_MASK_EMPTY).to_status()
assert type(errors.error_from_status(status)) is errors.ImageError
import editcritic.plugin.client
"""


@pytest.mark.packaging
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the oldest grpcio has wheels up to Python 3.11")
def test_the_client_runs_on_the_oldest_runtimes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    python = tmp_path / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *OLDEST], check=True, timeout=170)
    links = {"PYTHONPATH": str(ROOT / ".ci" / "src"), "PATH": ""}
    subprocess.run([python, "-c", ROUND_TRIP], env=links, cwd=tmp_path, check=True)
