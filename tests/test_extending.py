"""What docs/extending.md says works: own critics, engines, tables and repairs, as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.plugin.client import Client, make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.refine.diagnosis import load_diagnosis
from editcritic.refine.engine import ENGINES, load_engine
from editcritic.refine.repair import REPAIRS, Workpiece
from editcritic.server.critics.installed import installed_critics
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import NotFound

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|toml)\n(.*?)```", PAGE, re.DOTALL)
FILES = {found.group(1): code for _, code in BLOCKS if (found := re.match(r"# (\w+\.py)\n", code))}
SNIPPETS = [code for kind, code in BLOCKS if kind == "python" and code not in FILES.values()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's files, the metadata of a package that has them, and an edit; importable and the current folder."""
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    package = tmp_path / "my_critic-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-critic\nVersion: 1.0\n")
    table = next(code for kind, code in BLOCKS if kind == "toml" and "entry-points" in code)
    light = re.search(r'light = "(.+)"', table)
    assert light
    (package / "entry_points.txt").write_text(f"[editcritic.critics]\nlight = {light.group(1)}\n")
    photo = np.asarray(data.coffee()[:200, :240], np.uint8)
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[80:140, 90:150] = 255
    Image.fromarray(photo).save(tmp_path / "photo.jpg")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[1] / '.ci/src'}")
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def darkened(folder: Path, levels: int) -> tuple[pb.Edit, np.ndarray[Any, Any]]:
    """An edit of an even grey picture whose inside was made darker."""
    grey = np.full((96, 96, 3), 128, np.uint8)
    mask = np.zeros((96, 96), np.uint8)
    mask[32:64, 32:64] = 255
    picture = grey.copy()
    picture[mask > 0] -= np.uint8(levels)
    return make_edit(grey, mask), picture


def test_the_snippets_run_in_their_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(REPAIRS, pb.ACTION_KIND_DENOISE, REPAIRS[pb.ACTION_KIND_DENOISE])
    names: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(snippet, names)
    told = capsys.readouterr().out
    assert re.search(r"seed-\d \d+ % of the inside's light is red", told)
    assert REPAIRS[pb.ACTION_KIND_DENOISE] is names["bilateral"]
    noisy = np.random.default_rng(0).integers(90, 160, (40, 40, 3)).astype(np.uint8)
    full = np.ones((40, 40), np.float32)
    work = Workpiece(names["TeleaEngine"](), noisy, noisy, full, full, "", 0, 0)
    mended = names["bilateral"](work, pb.SuggestedAction()).picture
    assert mended.std() < noisy.std()


@pytest.mark.parametrize("isolated", [False, True])
def test_an_installed_critic_serves_under_its_name(folder: Path, isolated: bool) -> None:
    flags = ["--no-verdicts", *(["--hosting", "light?isolation=process"] if isolated else [])]
    edit, picture = darkened(folder, levels=20)
    with EmbeddedServer(["light", "ensemble@light:1"], flags) as server, Client(server.address) as client:
        critique = client.critique(edit, picture, critic="light")
        joined = client.critique(edit, picture, critic="ensemble")
        with pytest.raises(NotFound):
            client.critique(edit, picture, critic="my_critic:LightCritic")
    assert critique.critic.name == "light"
    assert critique.scores.harmony.value == pytest.approx(60)  # 20 levels, two points each
    assert critique.scores.overall.value == pytest.approx(60)
    assert critique.scores.prompt_alignment.status == pb.SCORE_STATUS_ABSTAINED
    assert joined.scores.harmony.value == pytest.approx(60)


def test_a_script_registers_a_critic_without_a_package(folder: Path) -> None:
    (folder / "my_critic-1.0.dist-info" / "entry_points.txt").unlink()
    command = [sys.executable, "serve.py", "--port=0", "--embedded", "--no-verdicts"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            address = json.loads(process.stdout.readline())["address"]
            edit, picture = darkened(folder, levels=10)
            with Client(address) as client:
                assert [each.identity.name for each in client.list_critics().critics] == ["light", "evidence"]
                assert client.critique(edit, picture).scores.overall.value == pytest.approx(80)
        finally:
            process.stdin.close()
            process.wait(30)


def test_installing_a_package_changes_nobody_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "greedy-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: greedy\nVersion: 1.0\n")
    lines = ["network = greedy:Mine", "a@b = greedy:Mine", "fine = greedy.sub:Mine"]
    (package / "entry_points.txt").write_text("\n".join(["[editcritic.critics]", *lines]))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_critics(["network"]) == {"fine": "greedy.sub:Mine"}
    assert "greedy" not in sys.modules
    assert [name for name in ("network", "a@b") if f"'{name}'" in caplog.text] == ["network", "a@b"]
    assert len(metadata.entry_points(group="editcritic.critics")) == 3


def test_an_engine_has_a_name_in_a_script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "telea", "")
    exec(FILES["edit.py"], {"__name__": "not run"})
    source = np.asarray(Image.open("photo.jpg"))
    mask = np.asarray(Image.open("mask.png")) > 0
    candidate = load_engine("telea").candidate(source, mask, "", seed=2)
    result = candidate.result()
    outside = candidate.blend_mask == 0
    assert (result[outside] == source[outside]).all()
    expected = cv2.inpaint(source, (candidate.denoise_mask > 0).astype(np.uint8), 5, cv2.INPAINT_TELEA)
    core = candidate.blend_mask == 1
    assert (result[core] == expected[core]).all()


def test_the_table_is_one(folder: Path) -> None:
    table = next(code for kind, code in BLOCKS if kind == "toml" and "[[rule]]" in code)
    (folder / "mine.toml").write_text(table, encoding="utf-8")
    rules = load_diagnosis(folder / "mine.toml").rules
    assert [rule.name for rule in rules] == ["never redraw for a seam", "anything grave: again, once"]
    assert [each.kind for each in rules[0].repairs] == [pb.ACTION_KIND_DEFRINGE, pb.ACTION_KIND_BLEND]
