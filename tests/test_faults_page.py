"""The page of faults tells only what a test shows."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "faults.md"
NAMED = re.compile(r"`(test_\w+)`")


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [each for each in cells if each[0] not in ("fault", "input") and len(each) == 3]


def names_of_tests() -> set[str]:
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests/server/conformance").glob("*.py")]
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in files)
    return {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:60])
def test_every_row_has_a_test_and_every_test_is_there(row: list[str]) -> None:
    named = set(NAMED.findall(row[2]))
    assert named, "no test shows it"
    assert named - names_of_tests() == set()
    assert row[1], "no answer is told"


def test_the_page_was_read() -> None:
    assert len(rows()) > 50


def test_every_reason_that_is_told_is_one() -> None:
    from editcritic.v1 import critic_pb2 as pb

    reasons = {name.removeprefix("ERROR_REASON_") for name in pb.ErrorReason.keys()}  # noqa: SIM118
    told = {word for row in rows() for word in re.findall(r"`([A-Z][A-Z_]+)`", row[1])}
    assert told - reasons == set()


# Where the time of day may be asked: for what people read, and for traces.
SHOWN = {
    "plugin/server_figures.py",
    "plugin/cli/history.py",
    "refine/journal.py",
    "server/observing.py",
    "server/verdicts.py",
}


def test_only_what_is_shown_depends_on_the_time_of_day() -> None:
    asked = re.compile(r"\btime\.time(_ns)?\(|\bdatetime\.(now|utcnow|today)\(|\bdt\.datetime\.(now|today)\(")
    files = [
        file for room in ("plugin", "protos", "refine", "server") for file in (ROOT / room).rglob("*.py")
    ]
    found = {str(file.relative_to(ROOT)) for file in files if asked.search(file.read_text(encoding="utf-8"))}
    assert found <= SHOWN
    assert time.get_clock_info("monotonic").adjustable is False
