"""A real GIMP 2.10: what is selected there is judged and edited, and comes back as layers. `make e2e-gimp` runs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from editcritic.plugin.gimp.document import GimpImage, find_image
from editcritic.plugin.gimp.installing import write_script
from editcritic.plugin.gimp.script_fu import ScriptFu, quoted, unquoted
from editcritic.v1.errors import InvalidInput, ServerUnavailable

pytestmark = [
    pytest.mark.gimp,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("gimp-2.10") is None, reason="there is no GIMP 2.10"),
]
START_S = 300.0
HOLE = (slice(80, 140), slice(90, 150))


@pytest.fixture(scope="module")
def gimp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptFu]:
    """A GIMP without windows whose server was started by the script that the menu entries are in."""
    home = tmp_path_factory.mktemp("home")
    write_script(home / "gimp" / "scripts")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["gimp-2.10", "-i", "-d", "-f", "-b", f"(editcritic-serve {port})"]
    environment = {"HOME": str(home), "GIMP2_DIRECTORY": str(home / "gimp"), "PATH": "/usr/bin:/bin"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, start_new_session=True, **quiet) as process:
        try:
            with _connected(port) as connection:
                yield connection
        finally:
            # The Script-Fu server is a process of its own, which outlives a GIMP that is merely terminated.
            os.killpg(process.pid, signal.SIGKILL)


def _connected(port: int) -> ScriptFu:
    give_up = time.monotonic() + START_S
    while True:
        try:
            return ScriptFu(port=port, timeout_s=300)
        except ServerUnavailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.5)


@pytest.fixture
def photo(gimp: ScriptFu, tmp_path: Path) -> Iterator[GimpImage]:
    """A photograph that is open, with nothing selected."""
    Image.fromarray(np.asarray(data.coffee()[:200, :240], np.uint8)).save(tmp_path / "photo.png")
    path = quoted(str(tmp_path / "photo.png"))
    gimp.evaluate(f'(car (gimp-file-load RUN-NONINTERACTIVE {path} "photo.png"))')
    image = find_image(gimp)
    yield image
    gimp.evaluate(f"(gimp-image-delete {image.number})")


def select_hole(image: GimpImage) -> None:
    rows, columns = HOLE
    box = f"{columns.start} {rows.start} {columns.stop - columns.start} {rows.stop - rows.start}"
    image.gimp.evaluate(f"(gimp-image-select-rectangle {image.number} CHANNEL-OP-REPLACE {box})")


def layer_names(image: GimpImage) -> list[str]:
    get = f"(vector->list (cadr (gimp-image-get-layers {image.number})))"
    numbers = image.gimp.evaluate(get).strip("()").split()
    return [unquoted(image.gimp.evaluate(f"(car (gimp-item-get-name {number}))")) for number in numbers]


def visible(image: GimpImage, path: Path) -> np.ndarray:
    image.save_pixels(path)
    return np.asarray(Image.open(path).convert("RGB"))


def editcritic(image: GimpImage, *arguments: str) -> subprocess.CompletedProcess[str]:
    port = image.gimp.port
    command = [sys.executable, "-c", "from editcritic.plugin.cli import main; main()", "gimp", *arguments]
    return subprocess.run(
        [*command, f"--port={port}"], capture_output=True, text=True, timeout=600, check=False
    )


def test_the_menu_entries_are_registered(gimp: ScriptFu) -> None:
    for name in ("script-fu-editcritic-open", "script-fu-editcritic-help"):
        assert gimp.evaluate(f"(car (gimp-procedural-db-proc-exists {quoted(name)}))") == "1"


def test_pixels_and_selection_leave_as_they_are_and_the_document_stays_as_it_was(
    photo: GimpImage, tmp_path: Path
) -> None:
    select_hole(photo)
    pixels = visible(photo, tmp_path / "pixels.png")
    assert np.array_equal(pixels, data.coffee()[:200, :240])
    photo.save_selection(tmp_path / "mask.png")
    mask = np.asarray(Image.open(tmp_path / "mask.png").convert("L"))
    expected = np.zeros((200, 240), np.uint8)
    expected[HOLE] = 255
    assert np.array_equal(mask, expected)
    assert (tmp_path / "mask.png").stat().st_mode & 0o777 == 0o600
    assert photo.has_selection
    assert layer_names(photo) == ["Background"]
    assert find_image(photo.gimp).number == photo.number, "the copies are gone"


def test_an_edit_on_a_layer_is_judged_and_the_faults_become_a_layer(photo: GimpImage, tmp_path: Path) -> None:
    layer = np.zeros((200, 240, 4), np.uint8)
    layer[HOLE] = (120, 120, 120, 255)
    Image.fromarray(layer).save(tmp_path / "edit.png")
    photo.add_layer(tmp_path / "edit.png", "my edit")
    before = visible(photo, tmp_path / "before.png")
    ran = editcritic(photo, "judge", "--critic=evidence")
    assert ran.returncode == 0, ran.stderr
    # A flat grey box on a photograph is no good edit, and where it is told is where it is.
    assert "flat" in ran.stdout.lower()
    top, *rest = layer_names(photo)
    assert top.startswith("editcritic: ")
    assert rest == ["my edit", "Background"]
    changed = np.abs(visible(photo, tmp_path / "after.png").astype(int) - before).max(axis=2) > 8
    assert changed[HOLE].mean() > 0.5
    far = np.ones_like(changed)
    far[60:160, 70:170] = False
    assert changed[far].mean() < 0.01


def test_a_selection_is_edited_and_the_result_is_a_layer_with_its_mask(
    photo: GimpImage, tmp_path: Path
) -> None:
    select_hole(photo)
    before = visible(photo, tmp_path / "before.png")
    options = ["--engine=dummy", "--critic=dummy", "--rounds=0", "--count=2", "--seed=4"]
    ran = editcritic(
        photo, "edit", "-p", 'a "red" ball', *options, f"--journal={tmp_path / 'journal.sqlite3'}"
    )
    assert ran.returncode == 0, ran.stderr
    assert layer_names(photo) == ['editcritic: a "red" ball', "Background"]
    mask = photo.gimp.evaluate(
        f"(car (gimp-layer-get-mask (car (gimp-image-get-active-layer {photo.number}))))"
    )
    assert mask != "-1"
    after = visible(photo, tmp_path / "after.png")
    differs = (after != before).any(axis=2)
    assert differs[HOLE].mean() > 0.9
    differs[HOLE] = False
    assert not differs.any(), "outside of the selection the picture is its own, bit for bit"
    # One step back is the picture as it was.
    photo.gimp.evaluate(
        f"(gimp-image-remove-layer {photo.number} (car (gimp-image-get-active-layer {photo.number})))"
    )
    assert np.array_equal(visible(photo, tmp_path / "again.png"), before)


def test_a_picture_without_anything_visible_is_refused_and_leaves_no_copy_behind(
    photo: GimpImage, tmp_path: Path
) -> None:
    layer = f"(car (gimp-image-get-active-layer {photo.number}))"
    photo.gimp.evaluate(f"(gimp-item-set-visible {layer} FALSE)")
    with pytest.raises(InvalidInput, match="GIMP says"):
        photo.save_pixels(tmp_path / "nothing.png")
    assert find_image(photo.gimp).number == photo.number


def test_what_is_missing_is_said(photo: GimpImage) -> None:
    ran = editcritic(photo, "edit", "-p", "a ball")
    assert (ran.returncode, "select what is to be edited" in ran.stderr) == (2, True)
    ran = editcritic(photo, "judge")
    assert (ran.returncode, "judging takes two layers" in ran.stderr) == (2, True)
    ran = editcritic(photo, "judge", "--image=other")
    assert (ran.returncode, "'photo.png'" in ran.stderr) == (2, True)
