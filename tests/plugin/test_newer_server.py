"""Answers of a newer server: kinds, states and reasons that this version has no words for are shown and not fatal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.rpc import error_details_pb2
from rich.console import Console

from editcritic.plugin.cli.tables import defect_table, ranking_table, score_table
from editcritic.plugin.client import Client
from editcritic.plugin.report import write_report
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.enums import value_name
from editcritic.v1.errors import NotFound, error_from_status
from tests.plugin.fake_server import FakeCritic, answering, serving_fake

LATER = 990


def later_critique(name: str) -> pb.Critique:
    critique = pb.Critique(candidate_id=name, explanation="haunted")
    critique.scores.overall.CopyFrom(pb.Score(value=40.0, status=pb.SCORE_STATUS_SCORED))
    critique.scores.harmony.status = LATER  # type: ignore[assignment]
    critique.scores.naturalness.CopyFrom(
        pb.Score(status=pb.SCORE_STATUS_ABSTAINED, abstention_reason=LATER)  # type: ignore[arg-type]
    )
    defect = critique.defects.add(severity=0.5, kind=LATER)  # type: ignore[arg-type]
    defect.actions.add(kind=LATER)  # type: ignore[arg-type]
    return pb.Critique.FromString(critique.SerializeToString() + b"\xfa\x7f\x03new")


def test_unknown_values_are_told_by_their_number() -> None:
    assert value_name(pb.DefectKind, pb.DEFECT_KIND_SEAM) == "DEFECT_KIND_SEAM"
    assert value_name(pb.DefectKind, LATER) == "DEFECT_KIND_UNKNOWN_990"


def test_a_stream_of_a_newer_server_is_read_to_its_end(edit: pb.Edit) -> None:
    def newer(requests: Any, context: Any) -> Any:
        for event in answering()(requests, context):
            if event.critique.candidate_id == "gone":
                dropped = pb.CandidateDropped(candidate_id="gone", reason=LATER)  # type: ignore[arg-type]
                event = pb.CritiqueStreamResponse(dropped=dropped)
            if event.HasField("critique"):
                event.critique.CopyFrom(later_critique(event.critique.candidate_id))
            yield event

    with serving_fake(FakeCritic(newer)) as address, Client(address).open_edit(edit) as stream:
        stream.candidate("gone", np.zeros((64, 64, 3), np.uint8))
        stream.candidate("a", np.zeros((64, 64, 3), np.uint8))
        events = list(stream.finish())
    assert [event.WhichOneof("event") for event in events] == ["dropped", "critique"]
    (critique,) = [event.critique for event in events if event.HasField("critique")]
    assert critique.defects[0].kind == LATER


def test_a_critique_of_a_newer_server_is_shown(edit: pb.Edit, tmp_path: Path) -> None:
    entry = pb.RankedCandidate(candidate_id="a", place=1, critique=later_critique("a"))
    console = Console(width=200, record=True, file=io.StringIO())
    for table in (
        score_table(entry.critique),
        defect_table(entry.critique),
        ranking_table([entry]),
    ):
        console.print(table)
    assert "unknown 990" in console.export_text()
    candidate = pb.Candidate(candidate_id="a", image=edit.source)
    page = write_report(tmp_path / "r.html", edit=edit, candidates={"a": candidate}, ranking=[entry])
    assert "unknown 990" in page.read_text()


def test_an_error_of_a_newer_server_keeps_its_code() -> None:
    status = NotFound("gone", reason=pb.ERROR_REASON_EDIT_UNKNOWN).to_status()
    info = error_details_pb2.ErrorInfo(reason="MOON_PHASE", domain="editcritic")
    status.details[0].Pack(info)
    told = error_from_status(status)
    assert isinstance(told, NotFound)
    assert told.reason_name == "UNSPECIFIED"


@pytest.mark.parametrize("missing", ["edit_sha256", "limits", "protocol_revision", "edit_id"])
def test_an_older_server_that_tells_less_is_spoken_with(edit: pb.Edit, missing: str) -> None:
    def older(requests: Any, context: Any) -> Any:
        for event in answering(sha256=b"known")(requests, context):
            if event.HasField("opened"):
                event.opened.ClearField(missing)
            yield event

    with serving_fake(FakeCritic(older)) as address, Client(address).open_edit(edit) as stream:
        stream.candidate("a", np.zeros((64, 64, 3), np.uint8))
        assert [e.critique.candidate_id for e in stream.finish() if e.HasField("critique")] == ["a"]
