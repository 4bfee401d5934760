"""The Python in README.md and in the guides runs as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.plugin.client import make_edit
from editcritic.plugin.embedded import EmbeddedServer

ROOT = Path(__file__).parents[1]
# docs/extending.md has a test of its own; the snippet of docs/models.md unpickles a file of one's own.
PAGES = [
    "README.md",
    "docs/client.md",
    "docs/diffusers.md",
    "docs/engines.md",
    "docs/loop.md",
    "docs/quality.md",
    "docs/score.md",
]
EVERY_PAGE = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{each.name}" for each in (ROOT / "docs").glob("*.md")),
]


def snippets(page: str) -> list[str]:
    """The page's Python blocks; later ones go on with what earlier ones defined."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with EmbeddedServer(["evidence"], ["--no-verdicts"]) as server:
        yield server.address


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with photo.jpg, mask.png and edit.png."""
    photo = np.asarray(data.coffee()[:200, :240], np.uint8)
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[80:140, 90:150] = 255
    fill = photo.copy()
    fill[mask > 0] = 120
    for name, picture in {"photo.jpg": photo, "mask.png": mask, "edit.png": fill}.items():
        Image.fromarray(picture).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(
    page: str, address: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    photo, fill = (np.asarray(Image.open(files / name)) for name in ("photo.jpg", "edit.png"))
    mask = np.asarray(Image.open(files / "mask.png"))
    names: dict[str, Any] = {
        "source": photo,
        "mask": mask,
        "image": Image.fromarray(photo),
        "mask_image": Image.fromarray(mask),
        "preview_image": fill,
        "final_image": fill,
        "preview": fill,
        "picture": fill,
    }
    found = snippets(page)
    assert found
    for snippet in found:
        code = snippet.replace("localhost:50551", address)
        if code.startswith("with client.open_edit"):
            names["edit"] = make_edit("photo.jpg", "mask.png")
            code = f"client = Client({address!r})\n{code}client.close()\n"
        exec(code, names)


def test_no_python_stands_on_a_page_that_nothing_runs() -> None:
    with_python = {page for page in EVERY_PAGE if snippets(page)}
    assert with_python == {*PAGES, "docs/extending.md", "docs/models.md"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's examples are for curl")
def test_the_commands_of_the_page_on_http_run(files: Path) -> None:
    text = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    found = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert len(found) == 3
    with EmbeddedServer(["evidence"], ["--no-verdicts", "--http=127.0.0.1:0"]) as server:
        script = "set -eu\n" + "\n".join(found).replace("127.0.0.1:50052", server.http_address)
        ran = subprocess.run(["bash", "-c", script], cwd=files, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    answers = [json.loads(part) for part in re.split(r"(?<=})\n?(?={)", ran.stdout) if part.strip()]
    health, listed, critique, *events = answers
    assert health == {"status": "SERVING"}
    assert listed["critics"][0]["identity"]["name"] == "evidence"
    overall = critique["critique"]["scores"]["overall"]
    assert [next(iter(each["result"])) for each in events if "critique" in each["result"]] == ["critique"]
    assert events[-1]["result"]["closed"]["critiqueCount"] == 1
    judged = next(each["result"]["critique"] for each in events if "critique" in each["result"])
    assert judged["scores"]["overall"] == overall
    assert json.loads((files / "openapi.json").read_text())["openapi"] == "3.1.0"


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    missing = [target for target in targets if not ((ROOT / page).parent / target).exists()]
    assert missing == []
