"""Three parts of an edit by the critic's map, and what is done about each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from editcritic.refine.diagnosis import load_diagnosis
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.engine import load_engine
from editcritic.refine.loop import Refinement
from editcritic.refine.quality_map import QualityParts, fault_map, quality_parts
from editcritic.refine.repair import REPAIRS, Workpiece, carry_out
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_image, encode_image
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import request_for

Array = np.ndarray
SIZE = (120, 160)
MASK = np.zeros(SIZE, np.float32)
MASK[20:100, 30:130] = 1


def marked(*places: tuple[slice, slice, float]) -> Array:
    severity = np.zeros(SIZE, np.float32)
    for rows, columns, value in places:
        severity[rows, columns] = value
    return severity


GRAVE = (slice(30, 50), slice(40, 60), 0.9)
MIDDLING = (slice(60, 90), slice(90, 120), 0.4)


def test_the_parts_cover_the_edit_and_stay_inside_it() -> None:
    parts = quality_parts(marked(GRAVE, MIDDLING), MASK)
    for part in (parts.low, parts.medium, parts.high):
        assert part.dtype == np.float32
        assert (part <= MASK).all()
    together = np.maximum(np.maximum(parts.low, parts.medium), parts.high)
    np.testing.assert_array_equal(together[MASK > 0.5], 1)
    assert parts.low[40, 50] == parts.medium[75, 105] == parts.high[30, 120] == 1
    assert parts.medium[40, 50] == parts.low[75, 105] == parts.high[40, 50] == 0
    assert parts.is_uneven


def test_a_part_reaches_beyond_the_fault_with_a_soft_rim() -> None:
    low = quality_parts(marked(GRAVE), MASK).low
    assert low[40, 62] == 1  # two pixels beyond it
    values = np.unique(low)
    assert ((values > 0.05) & (values < 0.95)).any()


def test_islands_go_and_holes_are_closed() -> None:
    speck = marked((slice(30, 32), slice(40, 42), 0.9))
    assert not quality_parts(speck, MASK).low.any()
    holed = marked(GRAVE)
    holed[38:41, 48:51] = 0
    assert quality_parts(holed, MASK).low[39, 49] == 1


def test_faults_outside_the_edit_are_nobodys() -> None:
    parts = quality_parts(marked((slice(0, 15), slice(0, 160), 1.0)), MASK)
    assert not parts.low.any()
    assert not parts.is_uneven


@pytest.mark.parametrize(
    "mask",
    [np.ones(SIZE), np.eye(*SIZE), np.pad([[1.0]], ((0, 119), (0, 159)))],
    ids=["all", "line", "pixel"],
)
@pytest.mark.parametrize("level", [0.0, 0.4, 1.0])
def test_any_mask_and_any_map_make_three_masks(mask: Array, level: float) -> None:
    parts = quality_parts(np.full(SIZE, level, np.float32), mask.astype(np.float32))
    for part in (parts.low, parts.medium, parts.high):
        assert part.shape == SIZE
        assert (part <= mask).all()


def test_a_map_is_read_at_its_place_and_size() -> None:
    small = np.zeros((20, 25), np.uint8)
    small[:10] = 204
    heat = pb.HeatMap(region=pb.Box(x=30, y=20, width=100, height=80), image=encode_image(small))
    severity = fault_map(pb.Critique(heat_maps=[heat]), SIZE)
    assert severity.shape == SIZE
    assert severity[40, 80] == pytest.approx(0.8, abs=0.01)
    assert severity[90, 80] == severity[5, 80] == severity[40, 140] == 0


def test_the_joined_map_stands_for_all() -> None:
    box = pb.Box(x=30, y=20, width=100, height=80)
    maps = [
        pb.HeatMap(region=box, image=encode_image(np.full((8, 10), 102, np.uint8))),
        pb.HeatMap(kind=pb.DEFECT_KIND_SEAM, region=box, image=encode_image(np.full((8, 10), 255, np.uint8))),
    ]
    assert fault_map(pb.Critique(heat_maps=maps), SIZE)[60, 80] == pytest.approx(0.4, abs=0.01)


def test_without_a_map_defects_fill_their_boxes() -> None:
    box = pb.Box(x=40, y=30, width=20, height=20)
    weaker = pb.Defect(severity=0.2, box=box)
    severity = fault_map(pb.Critique(defects=[pb.Defect(severity=0.7, box=box), weaker]), SIZE)
    assert severity[40, 50] == pytest.approx(0.7)
    assert severity[30, 40] == 0  # an ellipse: boxes have corners, faults seldom do


def work(critique: pb.Critique | None) -> Workpiece:
    source = np.random.default_rng(1).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    picture = np.where(MASK[..., None] > 0, 128, source).astype(np.uint8)
    return Workpiece(
        load_engine("dummy"), source, picture, MASK, MASK, "a ball", seed=4, attempt=0, critique=critique
    )


def defect_at(x: int, y: int, severity: float) -> pb.Defect:
    return pb.Defect(severity=severity, box=pb.Box(x=x, y=y, width=24, height=24))


@pytest.mark.parametrize(
    ("kind", "changed", "kept"),
    [
        (pb.ACTION_KIND_REDRAW_LOW_QUALITY, (45, 55), (75, 105)),
        (pb.ACTION_KIND_REINPAINT_MEDIUM_QUALITY, (75, 105), (45, 55)),
    ],
)
def test_a_part_is_worked_on_and_the_others_stand_bit_for_bit(
    kind: pb.ActionKind.ValueType, changed: tuple[int, int], kept: tuple[int, int]
) -> None:
    piece = work(pb.Critique(defects=[defect_at(43, 33, 0.9), defect_at(93, 63, 0.4)]))
    repair = REPAIRS[kind](piece, pb.SuggestedAction(kind=kind))
    assert repair is not None
    finished = carry_out(repair, "again", piece.source, piece.blend)
    result = decode_image(finished.image)
    assert (result[changed] != piece.picture[changed]).any()
    np.testing.assert_array_equal(result[kept], piece.picture[kept])
    np.testing.assert_array_equal(result[MASK == 0], piece.source[MASK == 0])
    assert finished.evaluation_count > 0


BY_QUALITY = pb.ACTION_KIND_REINPAINT_BY_QUALITY


class Asked(DummyEngine):
    """Keeps the masks and options that it was asked with."""

    def __init__(self, **able: Any) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, **able)
        self.masks: list[Array] = []
        self.options: list[dict[str, Any]] = []

    def candidate(self, source: Array, mask: Array, *arguments: Any, **options: Any) -> Any:
        self.masks.append(mask)
        self.options.append(options)
        return super().candidate(source, mask, *arguments, **options)


def both_parts(engine: DummyEngine) -> Workpiece:
    critique = pb.Critique(defects=[defect_at(43, 33, 0.9), defect_at(93, 63, 0.4)])
    return replace(work(critique), engine=engine, options={"strength": 0.8, "steps": 4})


def test_both_parts_are_worked_on_in_one_pass_each_at_its_own_strength() -> None:
    engine = Asked()
    piece = both_parts(engine)
    repair = REPAIRS[BY_QUALITY](piece, pb.SuggestedAction(kind=BY_QUALITY))
    assert repair is not None
    assert repair.candidate is not None
    (mask,), (options,) = engine.masks, engine.options
    strengths = options["strength_map"]
    assert options["strength"] is None  # the user's own is for the edit as a whole
    assert strengths[45, 55] == pytest.approx(0.9)
    assert strengths[75, 105] == pytest.approx(0.45)
    assert strengths[30, 120] == 0
    assert ((strengths > 0.05) & (strengths < 0.4)).any(), "the parts have no soft border"
    np.testing.assert_array_equal(strengths > 0, mask > 0)


def test_in_one_pass_what_is_of_high_quality_stands_bit_for_bit() -> None:
    engine = Asked()
    piece = both_parts(engine)
    repair = REPAIRS[BY_QUALITY](piece, pb.SuggestedAction(kind=BY_QUALITY))
    assert repair is not None
    result = decode_image(carry_out(repair, "again", piece.source, piece.blend).image)
    changed = (result != piece.picture).any(axis=-1)
    assert changed[45, 55]
    assert changed[75, 105]
    untouched = engine.masks[0] == 0
    assert not changed[untouched].any()
    assert untouched[MASK > 0].any()


def test_a_strength_of_the_action_is_that_of_the_worst_part_and_the_other_follows() -> None:
    engine = Asked()
    REPAIRS[BY_QUALITY](both_parts(engine), pb.SuggestedAction(kind=BY_QUALITY, strength=0.6))
    strengths = engine.options[0]["strength_map"]
    assert (strengths[45, 55], strengths[75, 105]) == pytest.approx((0.6, 0.3))


def test_an_engine_with_one_strength_for_all_pixels_cannot_do_both_in_one_pass() -> None:
    engine = Asked(strength_map=False)
    assert REPAIRS[BY_QUALITY](both_parts(engine), pb.SuggestedAction(kind=BY_QUALITY)) is None
    assert engine.options == []


IN_ONE_PASS = """
version = 1
[[rule]]
name = "a fault of content, by quality"
defects = ["melted_texture"]
repairs = [{ kind = "reinpaint_by_quality", strength = 0.8 }, { kind = "redraw_low_quality", strength = 0.9 }]
"""


@pytest.mark.parametrize(("able", "first"), [(True, BY_QUALITY), (False, pb.ACTION_KIND_REDRAW_LOW_QUALITY)])
def test_a_table_may_ask_for_one_pass_and_what_it_says_next_stands_in_where_the_engine_cannot(
    able: bool, first: int, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(IN_ONE_PASS, encoding="utf-8")
    small = pb.Defect(
        kind=pb.DEFECT_KIND_MELTED_TEXTURE, severity=0.9, box=pb.Box(x=20, y=16, width=8, height=8)
    )
    request = request_for(count=1, repair_round_count=1)
    mended = Refinement(
        Asked(strength_map=able),
        PlainCritic(defects=[small]),
        request,
        diagnosis=load_diagnosis(tmp_path / "mine.toml"),
    )
    started = [each.candidate_started for each in mended.run() if each.HasField("candidate_started")]
    assert [each.action for each in started if each.parent_candidate_id][:1] == [first]


def test_there_is_nothing_to_do_in_one_pass_where_all_is_alike() -> None:
    piece = replace(both_parts(Asked()), critique=pb.Critique(heat_maps=[POOR]))
    assert REPAIRS[BY_QUALITY](piece, pb.SuggestedAction(kind=BY_QUALITY)) is None


POOR = pb.HeatMap(region=pb.Box(width=160, height=120), image=encode_image(np.full((12, 16), 255, np.uint8)))


@pytest.mark.parametrize(
    "critique",
    [None, pb.Critique(), pb.Critique(heat_maps=[POOR])],
    ids=["not judged", "no fault", "poor all over"],
)
def test_there_is_no_part_to_redraw_where_all_is_alike(critique: pb.Critique | None) -> None:
    kind = pb.ACTION_KIND_REDRAW_LOW_QUALITY
    assert REPAIRS[kind](work(critique), pb.SuggestedAction(kind=kind)) is None


def test_a_region_is_inpainted_again_with_a_margin_at_the_strength_that_was_asked_for() -> None:
    piece, asked = work(None), []

    class Noting(DummyEngine):
        def candidate(self, source: Array, mask: Array, *arguments: Any, **options: Any) -> Any:
            asked.append((mask, options["strength"]))
            return super().candidate(source, mask, *arguments, **options)

    again = REPAIRS[pb.ACTION_KIND_REINPAINT_REGION]
    action = pb.SuggestedAction(
        kind=pb.ACTION_KIND_REINPAINT_REGION, strength=0.5, grow_px=6, region=defect_at(43, 33, 1).box
    )
    assert again(replace(piece, engine=Noting(), attempt=7), action) is not None
    part, strength = asked.pop()
    assert strength == 0.5
    assert part[33 - 6, 43 - 6] == part[33 + 24 + 5, 43 + 24 + 5] == 1
    assert part[33 - 7, 43] == part[33, 43 + 24 + 6] == 0


def test_without_a_strength_each_attempt_is_stronger_until_there_is_none_left() -> None:
    again, asked = REPAIRS[pb.ACTION_KIND_REINPAINT_REGION], []

    class Noting(DummyEngine):
        def candidate(self, *arguments: Any, **options: Any) -> Any:
            asked.append(options["strength"])
            return super().candidate(*arguments, **options)

    plain = pb.SuggestedAction(kind=pb.ACTION_KIND_REINPAINT_REGION)
    made = [again(replace(work(None), engine=Noting(), attempt=number), plain) for number in range(4)]
    assert asked == [0.35, 0.5, 0.7]
    assert made[3] is None


def test_parts_that_are_empty_are_even() -> None:
    empty, full = np.zeros(SIZE, np.float32), np.ones(SIZE, np.float32)
    assert not QualityParts(full, empty, empty).is_uneven
    assert not QualityParts(empty, empty, full).is_uneven
