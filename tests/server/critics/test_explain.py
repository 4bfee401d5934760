"""Sentences say no more than the figures do."""

from __future__ import annotations

import pytest

from editcritic.server.critics.explain import describe_defect, summarise
from editcritic.v1 import critic_pb2 as pb

DETAIL = {"name": "fine_detail_difference", "unit": "nepers"}


@pytest.mark.parametrize(("value", "says_seen"), [(1.7, False), (0.64, True), (0.1, True), (-1.7, False)])
def test_a_figure_within_the_photos_own_is_not_given_as_the_reason(value: float, says_seen: bool) -> None:
    measured = pb.Measurement(value=value, reference=0.64, **DETAIL)
    sentence = describe_defect(pb.DEFECT_KIND_SHARPNESS_MISMATCH, "in the middle", [measured], 0.7)
    assert ("seen rather than measured" in sentence) is says_seen
    assert sentence.endswith("(severity 0.7)")
    assert "the photo itself has a factor of 1.9" in sentence


def test_a_figure_without_a_reference_stands_alone() -> None:
    measured = pb.Measurement(name="flat_share", value=0.5, unit="fraction")
    sentence = describe_defect(pb.DEFECT_KIND_FLAT_FILL, "", [measured], 0.4)
    assert sentence == "flat fill: 50 % of the inside is one colour (severity 0.4)"


@pytest.mark.parametrize(
    ("checked", "expected"),
    [(["colour"], "colour is within"), (["seams", "colour"], "seams and colour are within")],
)
def test_no_fault_is_said_of_one_thing_and_of_several(checked: list[str], expected: str) -> None:
    assert expected in summarise([], checked, [])
