"""docs/contract.md is what the .proto files say, and leaves no method and no reason out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.protos.contract_page import PAGE, contract_page

PROTOS = sorted((Path(__file__).parents[2] / "protos/editcritic/v1").glob("*.proto"))
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    assert contract_page() == TEXT, "run .ci/protos, or python -m tests.protos.contract_page"


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_every_service_and_method_has_its_place(proto: Path) -> None:
    contract = proto.read_text(encoding="utf-8")
    for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", contract, re.MULTILINE | re.DOTALL):
        section = TEXT.partition(f"\n## {service}\n")[2].partition("\n## ")[0]
        assert "Role `" in section
        for method, asked, answered in re.findall(r"rpc (\w+)\((.*?)\) returns \((.*?)\)", body):
            told = section.partition(f"\n### {method}\n")[2].partition("\n### ")[0]
            assert f"`{asked}` → `{answered}`" in told
            assert len(told.strip().partition("\n")[0]) > 20, "the method says what it does"


def test_every_reason_is_told_with_its_code() -> None:
    contract = "".join(proto.read_text(encoding="utf-8") for proto in PROTOS)
    reasons = set(re.findall(r"ERROR_REASON_(\w+) = \d+;", contract)) - {"UNSPECIFIED"}
    assert len(reasons) > 25
    table = TEXT.partition("\n## Reasons\n")[2]
    assert {name for name, _ in re.findall(r"^\| `(\w+)` \| ([A-Z_]+)[: ]", table, re.MULTILINE)} == reasons


def test_no_cell_is_empty_where_the_contract_has_to_say_something() -> None:
    assert re.findall(r"^\| `\w+` \| [\w ]+ \|\s*\|$", TEXT, re.MULTILINE) == []
