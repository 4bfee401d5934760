"""The gallery of the documentation: page, pictures and results are of the plan, and what makes them works."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin import gallery
from editcritic.plugin.gallery import PLAN, GalleryEdit, carry_out, photograph
from editcritic.plugin.gallery_page import gallery_page, story_line
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = json.loads((DOCS / "gallery/results.json").read_text(encoding="utf-8"))
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


def test_every_edit_of_the_plan_was_carried_out_and_none_is_left_out() -> None:
    assert list(RESULTS) == [edit.name for edit in PLAN]


def test_the_page_says_what_plan_and_results_say() -> None:
    assert gallery_page(PLAN, RESULTS, "gallery") == PAGE, "run python -m editcritic.plugin.gallery --page"


@pytest.mark.parametrize("edit", PLAN, ids=lambda edit: edit.name)
def test_an_edit_stands_on_the_page_with_its_seed_scores_and_pictures(edit: GalleryEdit) -> None:
    section = PAGE.partition(f"## {edit.name.capitalize()}:")[2].partition("\n## ")[0]
    assert f"**First seed** ({edit.seed})" in section
    assert edit.prompt in section
    assert edit.remark in section
    first, best = (RESULTS[edit.name][which]["scores"]["overall"] for which in ("first", "result"))
    assert first <= best
    for kind in ("source", "first", "heat", "result"):
        path = f"gallery/{edit.name}-{kind}.jpg"
        assert path in section
        with Image.open(DOCS / path) as picture:
            assert picture.width == 240


def test_the_pictures_are_small_and_nothing_else_lies_there() -> None:
    files = list((DOCS / "gallery").iterdir())
    assert len(files) == 4 * len(PLAN) + 1
    assert sum(file.stat().st_size for file in files) < 600_000


@pytest.mark.parametrize("edit", PLAN, ids=lambda edit: edit.name)
def test_a_mask_lies_within_its_photograph(edit: GalleryEdit) -> None:
    photo = photograph(edit.photo)
    mask = edit.mask(photo.shape)
    assert photo.ndim == 3
    area = np.pi * edit.radii[0] * edit.radii[1]
    assert mask.shape == photo.shape[:2]
    assert (mask > 0).sum() == pytest.approx(area, rel=0.05)


def test_a_run_gives_pictures_and_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "ENGINE", "dummy")
    monkeypatch.setattr(gallery, "CRITIC", "dummy")
    facts = carry_out(PLAN[2], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"cat-{kind}.jpg" for kind in ("source", "first", "heat", "result")
    }
    assert facts["first"]["scores"]["overall"] <= facts["result"]["scores"]["overall"]
    assert "prompt_alignment" not in facts["first"]["scores"], "an abstention has no number"
    assert facts["result"]["accepted_by"] >= facts["first"]["accepted_by"]
    assert "denoising steps" in facts["story"]


def test_the_story_tells_decisions_in_their_order() -> None:
    def decided(
        kind: refine_pb2.DecisionKind.ValueType, name: str, action: int = 0
    ) -> refine_pb2.RefineResponse:
        told = refine_pb2.Decision(kind=kind, candidate_id=name)
        if action:
            told.action.kind = action  # type: ignore[assignment]
        return refine_pb2.RefineResponse(decision=told)

    started = [
        refine_pb2.RefineResponse(candidate_started=refine_pb2.CandidateStarted(candidate_id=name))
        for name in ("seed-1", "seed-2")
    ]
    result = refine_pb2.RefineResult(stop_reason=refine_pb2.STOP_REASON_TARGET_REACHED, evaluation_count=33)
    events = [
        *started,
        decided(refine_pb2.DECISION_KIND_DROP, "seed-2"),
        decided(refine_pb2.DECISION_KIND_SELECT, "seed-1"),
        decided(refine_pb2.DECISION_KIND_REPAIR, "seed-1", pb.ACTION_KIND_MATCH_DETAIL),
        decided(refine_pb2.DECISION_KIND_ROLL_BACK, "repair-1"),
        decided(refine_pb2.DECISION_KIND_REPAIR, "seed-1", pb.ACTION_KIND_BLEND),
        decided(refine_pb2.DECISION_KIND_KEEP, "repair-2"),
        refine_pb2.RefineResponse(result=result),
    ]
    assert story_line(events) == (
        "2 candidates, 1 of them stopped early; seed-1 chosen; match detail rolled back; blend kept; "
        "stopped: target reached; 33 denoising steps"
    )
