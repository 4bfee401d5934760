"""The upper part of a report as a picture, for the README: `make report-picture`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

__all__ = ["photograph"]

WIDTH, HEIGHT = 860, 924


def photograph(report: Path, out: Path) -> None:
    """Open the page in Chromium (CHROMIUM, or the one on the path) and keep what a reader sees first.

    Raises: SystemExit without a Chromium, CalledProcessError when it fails.
    """
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        raise SystemExit("there is no chromium here: apt-get install chromium, or set CHROMIUM")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        flags += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", report.resolve().as_uri()]
        subprocess.run([chromium, *flags], check=True, timeout=120, stderr=subprocess.DEVNULL)
        with Image.open(shot) as picture:
            picture.convert("RGB").save(out, quality=88, optimize=True)


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]))
