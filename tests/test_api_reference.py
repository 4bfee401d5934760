"""`make api`: the modules that it describes exist, say what they are for, and become pages."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / ".ci/api").read_text(encoding="utf-8")
MODULES = re.findall(r"editcritic\.[\w.]+", SCRIPT.partition("modules=(")[2].partition(")")[0])


@pytest.mark.parametrize("name", MODULES)
def test_a_described_module_says_what_it_is_for_and_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert len((module.__doc__ or "").strip()) > 20
    assert module.__all__


@pytest.mark.skipif(
    importlib.util.find_spec("pdoc") is None, reason="needs pdoc: pip install 'editcritic[docs]'"
)
def test_the_reference_has_a_page_for_each(tmp_path: Path) -> None:
    script = SCRIPT.replace("api-out", str(tmp_path)).replace('cd "$(dirname "$0")/.."', f'cd "{ROOT}"')
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=170)
    for name in MODULES:
        page = tmp_path / f"{name.replace('.', '/')}.html"
        assert page.stat().st_size > 5000, page
        assert "<p>::</p>" not in page.read_text(encoding="utf-8")
