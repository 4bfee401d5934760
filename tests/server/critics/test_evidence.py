"""The measured critic: it finds what was spoiled, says where and by how much, and leaves good edits alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import data

from editcritic.refine.cleanup import debanded
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.evidence import EvidenceCritic
from editcritic.server.critics.evidence.bands import find_bands
from editcritic.server.training.defects import INJECTIONS, EditCase, clean_control, inject, soften
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled, EditCriticError
from editcritic.v1.images import decode_mask

SEED = 11
LEARNED = frozenset({"melt", "smear", "warp", "duplicate", "omit", "foreign"})
"""Faults that only a learned critic is asked about."""
MEASURED = [name for name in INJECTIONS if name not in LEARNED]
SCORE_OF = {
    pb.DIMENSION_NATURALNESS: "naturalness",
    pb.DIMENSION_HARMONY: "harmony",
    pb.DIMENSION_PRESERVATION: "preservation",
    pb.DIMENSION_UNSPECIFIED: "overall",
}


def ellipse(shape: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]) -> NDArray[np.float32]:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside = ((columns - centre[0]) / axes[0]) ** 2 + ((rows - centre[1]) / axes[1]) ** 2 <= 1
    return inside.astype(np.float32)


@pytest.fixture(scope="module")
def case() -> EditCase:
    """A perfect answer: the coffee photograph, whose source has a piece of another one on the table."""
    photo, donor = np.asarray(data.coffee(), np.uint8), np.asarray(data.astronaut(), np.uint8)
    return clean_control(photo, donor[:400, :512], ellipse(photo.shape[:2], (480, 318), (78, 58)), SEED)


@pytest.fixture(scope="module")
def critic() -> EvidenceCritic:
    return EvidenceCritic()


def judge(
    critic: EvidenceCritic,
    source: NDArray[np.uint8],
    mask: NDArray[np.float32],
    candidate: NDArray[np.uint8],
    *,
    progress: float | None = None,
    blend_mask: NDArray[np.float32] | None = None,
    **options: Any,
) -> pb.Critique:
    edit = DecodedEdit("e", source, mask, blend_mask)
    step = pb.DenoisingProgress(fraction=progress) if progress is not None else None
    task = CritiqueTask(
        edit,
        critic.prepare(edit),
        DecodedCandidate("c", candidate, progress=step),
        pb.CritiqueOptions(**options),
    )
    outcome = critic.critique([task], lambda: False)[0]
    assert isinstance(outcome, pb.Critique), outcome
    return outcome


def judge_case(critic: EvidenceCritic, case: EditCase, **options: Any) -> pb.Critique:
    return judge(critic, case.source, case.mask, case.candidate, **options)


def kinds(critique: pb.Critique) -> set[int]:
    return {defect.kind for defect in critique.defects}


def test_a_perfect_answer_has_no_defect_and_high_scores(critic: EvidenceCritic, case: EditCase) -> None:
    critique = judge_case(critic, case)
    assert kinds(critique) == set()
    assert critique.scores.preservation.value == pytest.approx(100, abs=1)
    assert critique.scores.overall.value > 80
    assert critique.explanation.startswith("No fault found")


def test_prompts_are_left_to_others(critic: EvidenceCritic, case: EditCase) -> None:
    alignment = judge_case(critic, case).scores.prompt_alignment
    assert alignment.status == pb.SCORE_STATUS_ABSTAINED
    assert alignment.abstention_reason == pb.ABSTENTION_REASON_NOT_JUDGED
    assert not alignment.HasField("value")


@pytest.mark.parametrize("name", MEASURED)
def test_a_severe_defect_is_found_under_its_name(critic: EvidenceCritic, case: EditCase, name: str) -> None:
    critique = judge_case(critic, inject(case, name, 1.0, SEED))
    assert kinds(critique) & set(INJECTIONS[name].kinds), critique.explanation


@pytest.mark.parametrize("name", MEASURED)
def test_a_graver_defect_scores_lower(critic: EvidenceCritic, case: EditCase, name: str) -> None:
    score = SCORE_OF[INJECTIONS[name].dimension]
    clean = getattr(judge_case(critic, case).scores, score).value
    mild, severe = (
        getattr(judge_case(critic, inject(case, name, severity, SEED)).scores, score).value
        for severity in (0.3, 1.0)
    )
    # Figures far below their thresholds move by a point either way; a fault must not hide in that.
    assert clean + 1 >= mild > severe


def test_over_texture_grain_is_told_from_sharpening(critic: EvidenceCritic) -> None:
    photo = np.repeat(data.gravel()[:240, :320, None], 3, axis=2).astype(np.float32)
    mask = np.zeros((240, 320), np.float32)
    mask[70:170, 100:220] = 1
    grain = np.random.default_rng(3).normal(0, 18, (240, 320, 1))
    halos = 2.5 * (photo - gaussian_filter(photo, (1.2, 1.2, 0)))
    source = np.where(mask[..., None] > 0, 128, photo).astype(np.uint8)
    grainy, sharpened = (
        np.clip(photo + mask[..., None] * change, 0, 255).astype(np.uint8) for change in (grain, halos)
    )
    assert kinds(judge(critic, source, mask, grainy)) == {pb.DEFECT_KIND_NOISE_MISMATCH}
    assert kinds(judge(critic, source, mask, sharpened)) == {pb.DEFECT_KIND_SHARPNESS_MISMATCH}


LOCAL = [name for name in MEASURED if INJECTIONS[name].local]


@pytest.mark.parametrize("name", LOCAL)
def test_the_map_and_the_box_lie_on_the_injury(critic: EvidenceCritic, case: EditCase, name: str) -> None:
    spoiled = inject(case, name, 1.0, SEED)
    critique = judge_case(critic, spoiled, heat_map=True, heat_map_max_side=1024)
    defect = next(each for each in critique.defects if each.kind in INJECTIONS[name].kinds)
    heat_map = next(each for each in critique.heat_maps if each.kind == defect.kind)
    box, region = defect.box, heat_map.region
    assert spoiled.injured[box.y : box.y + box.height, box.x : box.x + box.width].any()
    heat = decode_mask(heat_map.image)
    injured = spoiled.injured[region.y : region.y + region.height, region.x : region.x + region.width]
    if heat.shape == injured.shape:
        near = np.argwhere(injured) - np.unravel_index(heat.argmax(), heat.shape)
        assert np.abs(near).max(axis=1).min() <= 12, "the hottest point is within a dozen pixels of it"


def test_the_joined_map_comes_first_and_covers_every_kind(critic: EvidenceCritic, case: EditCase) -> None:
    maps = judge_case(critic, inject(case, "flat", 1.0, SEED), heat_map=True).heat_maps
    assert maps[0].kind == pb.DEFECT_KIND_UNSPECIFIED
    joined, *others = (decode_mask(each.image) for each in maps)
    for each in others:
        assert (joined >= each - 1 / 255).all()
    assert not judge_case(critic, case).heat_maps, "maps come only when asked for"


@pytest.mark.parametrize("name", MEASURED)
def test_explanations_are_written_from_the_figures(critic: EvidenceCritic, case: EditCase, name: str) -> None:
    for defect in judge_case(critic, inject(case, name, 1.0, SEED)).defects:
        assert defect.evidence
        assert defect.actions
        told = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", defect.explanation)]
        value = defect.evidence[0].value
        # Shares are told in percent, ratios of energy (nepers) as factors.
        shown = [value, -value, 100 * value, math.exp(min(abs(value), 50.0))]
        assert any(math.isclose(a, b, rel_tol=0.06, abs_tol=0.6) for a in told for b in shown), (
            defect.explanation
        )
        assert f"severity {defect.severity:.1f}" in defect.explanation


def test_bands_are_gone_for_it_once_they_are_smoothed(critic: EvidenceCritic, case: EditCase) -> None:
    banded = inject(case, "banding", 0.5, SEED)
    smooth = debanded(case.source, banded.candidate, case.mask, seed=1)
    assert pb.DEFECT_KIND_BANDING in kinds(judge(critic, case.source, case.mask, banded.candidate))
    after = judge(critic, case.source, case.mask, smooth)
    assert pb.DEFECT_KIND_BANDING not in kinds(after)
    before = judge(critic, case.source, case.mask, banded.candidate)
    assert after.scores.naturalness.value > before.scores.naturalness.value + 20


def test_flat_blocks_of_a_coarse_compression_are_not_counted_as_bands_again(
    critic: EvidenceCritic, case: EditCase
) -> None:
    coarse = inject(case, "jpeg_blocks", 1.0, SEED).candidate
    found = kinds(judge(critic, case.source, case.mask, coarse))
    assert pb.DEFECT_KIND_COMPRESSION_MISMATCH in found
    assert pb.DEFECT_KIND_BANDING not in found


def test_a_calm_slope_of_light_an_edge_and_clipped_white_are_no_bands() -> None:
    grain = np.random.default_rng(SEED).normal(0, 0.5, (90, 160, 1))
    slope = np.linspace(40, 140, 160)[None, :, None] + np.zeros((90, 1, 3))
    assert not find_bands(np.round(slope + grain).astype(np.uint8)).found.any()
    bands = find_bands((np.round(slope / 10) * 10).astype(np.uint8))
    assert bands.found.mean() > 0.3
    assert np.median(bands.step[bands.found]) == pytest.approx(10)
    edge = np.full((90, 160, 3), 60, np.uint8)
    edge[:, 80:] = 140
    assert not find_bands(edge).found.any(), "one large step is the edge of a thing"
    burnt = np.clip(np.round(slope / 10) * 10 + 165, 0, 255)
    assert not find_bands(burnt.astype(np.uint8)).found[:, 100:].any(), (
        "nothing is to be seen in clipped white"
    )


def test_every_number_is_in_its_range(critic: EvidenceCritic, case: EditCase) -> None:
    for name in INJECTIONS:
        critique = judge_case(critic, inject(case, name, 1.0, SEED))
        height, width = case.mask.shape
        for _, score in critique.scores.ListFields():
            assert score.status != pb.SCORE_STATUS_SCORED or 0 <= score.value <= 100
            assert score.stddev >= 0
        for defect in critique.defects:
            assert 0 <= defect.severity <= 1
            assert 0 <= defect.box.x < defect.box.x + defect.box.width <= width
            assert 0 <= defect.box.y < defect.box.y + defect.box.height <= height
        for figure in [*critique.measurements, *(each for one in critique.defects for each in one.evidence)]:
            assert all(map(math.isfinite, (figure.value, figure.reference, figure.spread, figure.z_score)))
            assert abs(figure.z_score) <= 99


def test_batch_mates_and_repetition_change_nothing(critic: EvidenceCritic, case: EditCase) -> None:
    edit = DecodedEdit("e", case.source, case.mask)
    prepared = critic.prepare(edit)
    pictures = [
        case.candidate,
        inject(case, "seam", 0.6, SEED).candidate,
        inject(case, "blur", 1.0, SEED).candidate,
    ]
    tasks = [CritiqueTask(edit, prepared, DecodedCandidate(str(n), each)) for n, each in enumerate(pictures)]
    together = critic.critique(tasks, lambda: False)
    for task, outcome in zip(tasks, together, strict=True):
        alone = critic.critique([task], lambda: False)[0]
        assert isinstance(alone, pb.Critique)
        assert isinstance(outcome, pb.Critique)
        assert alone.scores == outcome.scores
        assert alone.measurements == outcome.measurements
        again = judge(critic, case.source, case.mask, task.candidate.image)
        assert again.scores == outcome.scores


def test_a_source_copy_is_no_good_edit(critic: EvidenceCritic, case: EditCase) -> None:
    copied = judge(critic, case.source, case.mask, case.source)
    assert pb.DEFECT_KIND_UNCHANGED in kinds(copied)
    assert copied.scores.overall.value == pytest.approx(0, abs=1)


def test_the_soft_rim_of_a_blend_is_no_defect(critic: EvidenceCritic, case: EditCase) -> None:
    soft = soften(case.mask, 6.0)
    blended = case.source + soft[..., None] * (case.clean.astype(np.float32) - case.source)
    candidate = np.round(blended).astype(np.uint8)
    critique = judge(critic, case.source, case.mask, candidate, blend_mask=soft)
    assert pb.DEFECT_KIND_OUTSIDE_CHANGED not in kinds(critique)
    assert pb.DEFECT_KIND_SEAM not in kinds(critique)


def test_a_reencoded_outside_is_forgiven_and_a_painted_one_is_not(
    critic: EvidenceCritic, case: EditCase
) -> None:
    rng = np.random.default_rng(0)
    dithered = case.candidate.astype(np.int16) + rng.integers(-1, 2, case.candidate.shape)
    assert pb.DEFECT_KIND_OUTSIDE_CHANGED not in kinds(
        judge(critic, case.source, case.mask, np.clip(dithered, 0, 255).astype(np.uint8))
    )
    painted = case.candidate.copy()
    painted[20:60, 20:60] = (255, 0, 255)
    critique = judge(critic, case.source, case.mask, painted)
    leak = next(each for each in critique.defects if each.kind == pb.DEFECT_KIND_OUTSIDE_CHANGED)
    assert abs(leak.box.x - 20) <= 8
    assert abs(leak.box.y - 20) <= 8
    assert critique.scores.preservation.value < 60


def test_an_early_preview_is_not_blamed_for_its_blur(critic: EvidenceCritic, case: EditCase) -> None:
    blurred = inject(case, "blur", 1.0, SEED)
    early = judge_case(critic, blurred, progress=0.3)
    late = judge_case(critic, blurred)
    assert pb.DEFECT_KIND_SHARPNESS_MISMATCH not in kinds(early)
    assert early.scores.harmony.value > late.scores.harmony.value
    assert early.scores.harmony.stddev > 0


def test_the_first_steps_cannot_be_judged(critic: EvidenceCritic, case: EditCase) -> None:
    scores = judge_case(critic, case, progress=0.05).scores
    assert scores.naturalness.abstention_reason == pb.ABSTENTION_REASON_TOO_EARLY
    assert scores.preservation.status == pb.SCORE_STATUS_SCORED


def test_nothing_happened_is_told_at_any_step(critic: EvidenceCritic, case: EditCase) -> None:
    critique = judge(critic, case.source, case.mask, case.source, progress=0.3)
    assert pb.DEFECT_KIND_UNCHANGED in kinds(critique)


def test_no_more_defects_than_asked_for(critic: EvidenceCritic, case: EditCase) -> None:
    spoiled = inject(case, "flat", 1.0, SEED)
    everything = judge_case(critic, spoiled).defects
    assert len(everything) > 1
    assert list(judge_case(critic, spoiled, max_defect_count=1).defects) == list(everything[:1])


def test_work_that_nobody_waits_for_stops(critic: EvidenceCritic, case: EditCase) -> None:
    edit = DecodedEdit("e", case.source, case.mask)
    task = CritiqueTask(edit, critic.prepare(edit), DecodedCandidate("c", case.candidate))
    outcome = critic.critique([task], lambda: True)[0]
    assert isinstance(outcome, EditCriticError)
    assert isinstance(outcome, Cancelled)


def texture(height: int, width: int, seed: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 190, width)[None, :, None] + rng.normal(0, 6, (height, width, 3))
    return np.clip(ramp, 0, 255).astype(np.uint8)


def hole(height: int, width: int, *boxes: tuple[int, int, int, int]) -> NDArray[np.float32]:
    mask = np.zeros((height, width), np.float32)
    for x, y, box_width, box_height in boxes:
        mask[y : y + box_height, x : x + box_width] = 1.0
    return mask


ODD: dict[str, Callable[[], tuple[NDArray[np.uint8], NDArray[np.float32]]]] = {
    "one pixel": lambda: (texture(96, 96), hole(96, 96, (50, 50, 1, 1))),
    "a thin line": lambda: (texture(96, 96), hole(96, 96, (10, 48, 76, 1))),
    "everything": lambda: (texture(96, 96), np.ones((96, 96), np.float32)),
    "all but a corner": lambda: (texture(96, 96), 1 - hole(96, 96, (0, 0, 4, 4))),
    "many islands": lambda: (
        texture(128, 128),
        hole(128, 128, *[(x, y, 6, 6) for x in range(4, 120, 16) for y in range(4, 120, 16)]),
    ),
    "at the photograph's edge": lambda: (texture(96, 96), hole(96, 96, (0, 30, 40, 40))),
    "half of the photograph": lambda: (texture(96, 96), hole(96, 96, (0, 0, 96, 48))),
    "a soft blob": lambda: (texture(96, 96), soften(hole(96, 96, (30, 30, 36, 36)), 10.0)),
    "one flat colour": lambda: (np.full((96, 96, 3), 77, np.uint8), hole(96, 96, (30, 30, 36, 36))),
    "black": lambda: (np.zeros((96, 96, 3), np.uint8), hole(96, 96, (30, 30, 36, 36))),
    "grey": lambda: (np.repeat(texture(96, 96)[..., :1], 3, axis=2), hole(96, 96, (30, 30, 36, 36))),
    "the smallest picture": lambda: (texture(8, 8), hole(8, 8, (2, 2, 4, 4))),
    "a strip": lambda: (texture(8, 400), hole(8, 400, (100, 2, 100, 4))),
}
FILLS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "the same": lambda source: source,
    "another texture": lambda source: texture(*source.shape[:2], seed=9),
    "white": lambda source: np.full_like(source, 255),
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("odd", ODD)
def test_odd_edits_get_sound_numbers_or_an_abstention(critic: EvidenceCritic, odd: str, fill: str) -> None:
    source, mask = ODD[odd]()
    candidate = np.where(mask[..., None] > 0.5, FILLS[fill](source), source).astype(np.uint8)
    critique = judge(critic, source, mask, candidate, heat_map=True)
    for _, score in critique.scores.ListFields():
        if score.status == pb.SCORE_STATUS_SCORED:
            assert math.isfinite(score.value)
            assert 0 <= score.value <= 100
        else:
            assert score.abstention_detail
            assert score.abstention_reason != pb.ABSTENTION_REASON_UNSPECIFIED
    for defect in critique.defects:
        assert defect.box.width >= 1
        assert defect.box.height >= 1


@pytest.mark.parametrize(
    ("odd", "dimension", "reason"),
    [
        ("one pixel", "harmony", pb.ABSTENTION_REASON_REGION_TOO_SMALL),
        ("everything", "preservation", pb.ABSTENTION_REASON_NO_REFERENCE),
        ("everything", "harmony", pb.ABSTENTION_REASON_NO_REFERENCE),
    ],
)
def test_what_cannot_be_measured_is_left_open(
    critic: EvidenceCritic, odd: str, dimension: str, reason: int
) -> None:
    source, mask = ODD[odd]()
    score = getattr(judge(critic, source, mask, FILLS["white"](source)).scores, dimension)
    assert score.abstention_reason == reason


def test_a_photograph_of_twenty_megapixels_is_judged_within_bounds(critic: EvidenceCritic) -> None:
    source = np.tile(texture(456, 608), (8, 9, 1))[:3648, :5472]
    mask = hole(3648, 5472, (2000, 1500, 300, 300))
    candidate = source.copy()
    candidate[1500:1800, 2000:2300] = np.clip(candidate[1500:1800, 2000:2300].astype(int) + 40, 0, 255)
    critique = judge(critic, source, mask, candidate)
    assert pb.DEFECT_KIND_TONE_SHIFT in kinds(critique)
