"""A page token is a number that the journal gave out, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from editcritic.refine.journal import Journal
from editcritic.v1.errors import InvalidInput


@pytest.mark.parametrize("token", ["²", "-1", "1.5", "9" * 40, "x", " 1", "1; DROP TABLE edits"])
def test_a_made_up_page_token_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(InvalidInput, match="page_token"):
        Journal(tmp_path / "journal.sqlite3").edits(page_token=token)
