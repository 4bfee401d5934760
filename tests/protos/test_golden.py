"""Messages of every release so far are read as they were meant."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
from google.protobuf import unknown_fields

from tests.protos.golden import FOLDER, KINDS, as_dict

KEPT = sorted(FOLDER.glob("*/*.binpb"))


@pytest.mark.parametrize("file", KEPT, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_message_of_a_release_is_read_as_it_was_meant(file: Path) -> None:
    data = file.read_bytes()
    message = KINDS[file.stem.partition("-")[0]].FromString(data)
    assert as_dict(message) == json.loads(file.with_suffix(".json").read_text())
    assert len(unknown_fields.UnknownFieldSet(message)) == 0
    assert message.SerializeToString(deterministic=True) == data


def test_there_are_messages_of_every_kind() -> None:
    for release in FOLDER.iterdir():
        assert {file.stem.partition("-")[0] for file in release.glob("*.binpb")} == set(KINDS)
    assert (FOLDER / metadata.version("editcritic")).exists(), "python -m tests.protos.golden writes them"
