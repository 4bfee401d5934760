"""An edit whose process is killed goes on from its journal and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from editcritic.refine.journal import Journal

COUNT = 24


def edit(folder: Path, journal: str, *arguments: str) -> list[str]:
    """The command line of one edit."""
    program = "from editcritic.plugin.cli import main; main()"
    fixed = ["--image", "photo.png", "--mask", "mask.png", "--engine", "dummy", "--critic", "evidence"]
    return [sys.executable, "-c", program, "edit", *fixed, "--journal", journal, "--id", "mine", *arguments]


def test_an_edit_that_was_killed_is_resumed_to_the_same_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    Image.fromarray(rng.integers(40, 200, (96, 128, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((96, 128), np.uint8)
    mask[30:70, 40:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    environment = {**os.environ, "EDITCRITIC_SERVER": ""}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "timeout": 100, "check": True}

    asked = ["--count", str(COUNT), "--seed", "7"]
    running = subprocess.Popen(
        edit(tmp_path, "killed.sqlite3", *asked, "--out", "never.png"),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journal, deadline = tmp_path / "killed.sqlite3", time.monotonic() + 90
    while time.monotonic() < deadline and running.poll() is None:
        if journal.exists() and len(Journal(journal).events("mine")) > 20:
            break
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = len(Journal(journal).events("mine"))
    assert 20 < before < 8 * COUNT, "killed in the middle"
    assert not (tmp_path / "never.png").exists()

    subprocess.run(edit(tmp_path, "killed.sqlite3", "--resume", "--out", "resumed.png"), **options)  # type: ignore[call-overload]
    subprocess.run(edit(tmp_path, "straight.sqlite3", *asked, "--out", "straight.png"), **options)  # type: ignore[call-overload]
    assert (tmp_path / "resumed.png").read_bytes() == (tmp_path / "straight.png").read_bytes()
    assert len(Journal(journal).events("mine")) > before
