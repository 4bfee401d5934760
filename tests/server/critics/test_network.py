"""The learned critic: it ranks what was spoiled below what was not, says where, and stays silent on good edits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.network.calibration import (
    Calibration,
    Curve,
    read_calibration,
    write_calibration,
)
from editcritic.server.critics.network.critic import WEIGHTS, NetworkCritic
from editcritic.server.critics.network.figures import border_steps
from editcritic.server.critics.network.model import EditInput, EditNetwork
from editcritic.server.critics.network.runner import NetworkRunner, load_network
from editcritic.server.critics.network.view import MAX_SIDE, MIN_SIDE, view_edit, view_whole
from editcritic.server.training.defects import EditCase, clean_control, inject
from editcritic.server.training.suites.asking import Asked, hidden_source
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled, InvalidInput

SEED = 11


def ellipse(shape: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int]) -> NDArray[np.float32]:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    inside = ((columns - centre[0]) / axes[0]) ** 2 + ((rows - centre[1]) / axes[1]) ** 2 <= 1
    return inside.astype(np.float32)


@pytest.fixture(scope="module")
def case() -> EditCase:
    photo, donor = np.asarray(data.coffee(), np.uint8), np.asarray(data.astronaut(), np.uint8)
    return clean_control(photo, donor[:400, :512], ellipse(photo.shape[:2], (480, 318), (78, 58)), SEED)


@pytest.fixture(scope="module")
def critic() -> NetworkCritic:
    return NetworkCritic()


@pytest.fixture(scope="module")
def asked(critic: NetworkCritic, case: EditCase) -> Asked:
    return Asked.about(critic, case.source, case.mask)


def test_a_perfect_answer_scores_high_and_has_no_defect(asked: Asked, case: EditCase) -> None:
    critique = asked.critique(case.candidate)
    assert critique.scores.overall.value > 80
    assert not critique.defects
    assert critique.explanation.startswith("No fault found")


@pytest.mark.parametrize("name", ["black", "flat", "blur", "melt", "smear", "jpeg_blocks", "sharpen"])
def test_a_severe_fault_scores_below_the_perfect_answer(asked: Asked, case: EditCase, name: str) -> None:
    spoiled = inject(case, name, 1.0, SEED)
    assert asked.scores(spoiled.candidate)["overall"] < asked.scores(case.candidate)["overall"] - 5


def test_a_graver_fault_scores_lower(asked: Asked, case: EditCase) -> None:
    values = [
        asked.scores(inject(case, "blur", severity, SEED).candidate)["visual_quality"]
        for severity in (0.2, 0.6, 1.0)
    ]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 3


def test_a_fault_is_named_placed_and_explained(asked: Asked, case: EditCase) -> None:
    critique = asked.critique(inject(case, "black", 0.5, SEED).candidate, heat_map=True)
    worst = critique.defects[0]
    assert worst.kind == pb.DEFECT_KIND_BLACK_FILL
    assert worst.evidence[0].name == "map_share"
    assert "black fill" in worst.explanation
    assert "severity" in worst.explanation
    assert worst.actions[0].kind == pb.ACTION_KIND_REROLL
    assert {heat.kind for heat in critique.heat_maps} >= {pb.DEFECT_KIND_UNSPECIFIED, worst.kind}
    mask_box = pb.Box(x=402, y=260, width=157, height=117)
    assert worst.box.x >= mask_box.x - 12
    assert worst.box.x + worst.box.width <= mask_box.x + mask_box.width + 12


def test_a_copy_of_the_source_is_no_edit(asked: Asked, case: EditCase) -> None:
    critique = asked.critique(case.source)
    assert critique.scores.overall.value < 1
    assert pb.DEFECT_KIND_UNCHANGED in {defect.kind for defect in critique.defects}


def test_a_change_outside_the_mask_lowers_preservation_alone(asked: Asked, case: EditCase) -> None:
    leaked = case.candidate.copy()
    leaked[20:60, 20:60] = 255 - leaked[20:60, 20:60]
    scores = asked.scores(leaked)
    assert scores["preservation"] < 70
    assert scores["naturalness"] > 70


def test_the_source_inside_may_be_hidden(critic: NetworkCritic, case: EditCase) -> None:
    hidden = Asked.about(critic, hidden_source(case.source, case.mask), case.mask)
    clean, spoiled = case.candidate, inject(case, "smear", 1.0, SEED).candidate
    assert hidden.scores(clean)["naturalness"] > hidden.scores(spoiled)["naturalness"]


def test_a_score_does_not_depend_on_its_batch(critic: NetworkCritic, asked: Asked, case: EditCase) -> None:
    images = [case.candidate, inject(case, "blur", 1.0, SEED).candidate, case.source]
    tasks = [
        CritiqueTask(asked.edit, asked.prepared, DecodedCandidate(str(i), image))
        for i, image in enumerate(images)
    ]
    together = critic.critique(tasks, lambda: False)
    for task, one in zip(tasks, together, strict=True):
        alone = critic.critique([task], lambda: False)[0]
        assert isinstance(one, pb.Critique)
        assert isinstance(alone, pb.Critique)
        assert one.scores == alone.scores


def test_an_abandoned_task_is_not_judged(critic: NetworkCritic, asked: Asked, case: EditCase) -> None:
    task = CritiqueTask(asked.edit, asked.prepared, DecodedCandidate("a", case.candidate))
    assert isinstance(critic.critique([task], lambda: True)[0], Cancelled)


def test_an_early_preview_is_not_called_blurred(asked: Asked, case: EditCase) -> None:
    blurred = inject(case, "blur", 1.0, SEED).candidate
    named = {defect.kind for defect in asked.critique(blurred).defects}
    assert named & {pb.DEFECT_KIND_SHARPNESS_MISMATCH, pb.DEFECT_KIND_MELTED_TEXTURE}
    assert not asked.critique(blurred, progress=0.3).defects
    early = asked.critique(blurred, progress=0.05).scores.naturalness
    assert early.abstention_reason == pb.ABSTENTION_REASON_TOO_EARLY


@pytest.mark.parametrize(
    ("shape", "mask", "abstains"),
    [
        ((64, 64), (slice(30, 34), slice(30, 34)), pb.ABSTENTION_REASON_REGION_TOO_SMALL),
        ((64, 64), (slice(None), slice(None)), pb.ABSTENTION_REASON_NO_REFERENCE),
    ],
)
def test_what_cannot_be_judged_gets_no_number(
    critic: NetworkCritic, shape: tuple[int, int], mask: Any, abstains: int
) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
    plane = np.zeros(shape, np.float32)
    plane[mask] = 1
    harmony = Asked.about(critic, photo, plane).critique(photo).scores.harmony
    assert harmony.status == pb.SCORE_STATUS_ABSTAINED
    assert harmony.abstention_reason == abstains


@pytest.mark.parametrize("shape", [(16, 16), (33, 700), (700, 33), (1200, 900)])
def test_pictures_of_any_shape_are_judged(critic: NetworkCritic, shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)
    mask = np.zeros(shape, np.float32)
    mask[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = 1
    critique = Asked.about(critic, hidden_source(photo, mask), mask).critique(photo, heat_map=True)
    assert critique.scores.preservation.value > 99
    for heat in critique.heat_maps:
        assert heat.region.x + heat.region.width <= shape[1]
        assert heat.region.y + heat.region.height <= shape[0]


def test_the_edit_is_found_without_the_mask(critic: NetworkCritic, case: EditCase) -> None:
    found = critic.find_edit(case.source, case.candidate)
    assert found.shape == case.mask.shape
    seen, truth = found > 0.5, case.mask > 0.5
    assert (seen & truth).sum() / (seen | truth).sum() > 0.6


def test_windows_are_native_until_the_mask_grows_too_large() -> None:
    source = np.zeros((900, 1200, 3), np.uint8)
    sides = {}
    for size in (20, 120, 200, 700):
        mask = np.zeros((900, 1200), np.float32)
        mask[50 : 50 + size, 60 : 60 + size] = 1
        view = view_edit(DecodedEdit("e", source, mask))
        sides[size] = (view.side, view.window.width)
        assert MIN_SIDE <= view.side <= MAX_SIDE
        assert view.side % 32 == 0
    assert sides[20] == sides[120] == (256, 256)
    assert sides[200][0] == sides[200][1]
    assert sides[700][1] >= 1.25 * 700


def test_the_whole_photograph_can_be_viewed() -> None:
    view = view_whole(np.zeros((100, 300, 3), np.uint8))
    assert view.within_photo(view.alpha).shape[1] == view.side
    assert view.photo.width == 300


def test_a_shift_of_the_inside_steps_to_one_side_all_along_the_border() -> None:
    plane, regions = torch.zeros(1, 1, 64, 64), torch.zeros(1, 4, 64, 64)
    regions[0, 3] = 1
    regions[0, :, 16:48, 16:48] = 0
    regions[0, 2, 14:50, 14:50] = 1
    regions[0, 2, 16:48, 16:48] = 0
    regions[0, 3, 14:50, 14:50] = 0
    regions[0, 1, 16:48, 16:48] = 1
    plane[0, 0, 16:48, 16:48] = 0.5
    steps = border_steps(plane, regions)[0, 0]
    assert steps[16, 30].item() == pytest.approx(0.5)
    assert steps[32, 32] == 0
    assert (steps >= 0).all()


@pytest.fixture(scope="module")
def given() -> EditInput:
    torch.manual_seed(0)
    return EditInput(
        torch.rand(1, 3, 128, 128) * 2 - 1,
        torch.rand(1, 3, 128, 128) * 2 - 1,
        torch.ones(1, 1, 128, 128),
        torch.eye(4)[torch.randint(0, 4, (1, 128, 128))].permute(0, 3, 1, 2),
        torch.zeros(1, 3, 96, 96),
        torch.zeros(1, 1, 96, 96),
        torch.ones(1),
        torch.ones(1),
    )


def _runner(*, reduced: bool) -> NetworkRunner:
    return NetworkRunner(load_network(WEIGHTS / "network.safetensors"), reduced=reduced)


def test_folding_the_norms_changes_nothing(given: EditInput) -> None:
    with torch.inference_mode():
        plain = load_network(WEIGHTS / "network.safetensors").eval()(given)
        folded = _runner(reduced=False).forward(given)
    assert torch.allclose(plain.mean, folded.mean, atol=1e-3)
    assert torch.allclose(plain.maps, folded.maps, atol=1e-2)


def test_bfloat16_convolutions_hardly_move_a_score(given: EditInput) -> None:
    with torch.inference_mode():
        full, reduced = (_runner(reduced=each).forward(given) for each in (False, True))
    assert not torch.equal(full.maps, reduced.maps)
    assert torch.allclose(full.mean, reduced.mean, atol=0.05)
    assert torch.allclose(full.kinds, reduced.kinds, atol=0.15)


def test_the_network_is_small_enough_to_ship() -> None:
    assert sum(weight.numel() for weight in EditNetwork().parameters()) < 8_000_000
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 20_000_000


def test_weights_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no weights"):
        load_network(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(InvalidInput, match="no weights"):
        load_network(tmp_path / "broken.safetensors")
    (tmp_path / "calibration.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(InvalidInput, match="no calibration"):
        read_calibration(tmp_path / "calibration.json")


def test_a_curve_rises_beyond_its_ends_and_keeps_within_the_scale() -> None:
    curve = Curve([-1.0, 0.0, 1.0], [10.0, 50.0, 90.0])
    values = [curve.score(mean, 0.01)[0] for mean in (-9, -2, -1, 0, 1, 2, 9)]
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    assert values[0] > 0
    assert values[-1] < 100
    assert curve.score(0.0, 0.09)[1] > curve.score(0.0, 0.0)[1]


def test_a_low_score_without_a_name_blames_its_likeliest_kind(
    critic: NetworkCritic, case: EditCase, tmp_path: Path
) -> None:
    """Thresholds out of reach: only the floors of the scores can speak, and they name one kind."""
    shutil.copytree(WEIGHTS, tmp_path / "deaf")
    file = tmp_path / "deaf" / "calibration.json"
    shipped = read_calibration(file)
    deaf = replace(shipped, thresholds=dict.fromkeys(shipped.thresholds, 0.9999), floors={})
    spoiled = inject(case, "melt", 1.0, SEED).candidate
    write_calibration(deaf, file)
    assert not Asked.about(NetworkCritic(file.parent), case.source, case.mask).critique(spoiled).defects
    write_calibration(replace(deaf, floors={"naturalness": 0.5, "harmony": 0.5}), file)
    listening = Asked.about(NetworkCritic(file.parent), case.source, case.mask)
    (defect,) = listening.critique(spoiled).defects
    assert 0.3 <= defect.severity <= 1
    assert not listening.critique(case.candidate).defects


def test_a_score_under_its_floor_is_graver_the_lower_it_is() -> None:
    calibration = Calibration("c", {}, {}, {"harmony": 0.4})
    low = [calibration.severity_of_low("harmony", share) for share in (0.5, 0.4, 0.39, 0.2, 0.0)]
    assert low[:2] == [0.0, 0.0]
    assert low[2:] == pytest.approx([0.3175, 0.65, 1.0])
    assert calibration.severity_of_low("naturalness", 0.0) == 0.0


def test_severity_is_three_tenths_at_the_threshold() -> None:
    calibration = Calibration("c", {}, {"SEAM": 0.6})
    assert calibration.severity("SEAM", 0.0) == 0.0
    assert calibration.severity("SEAM", 0.6) == pytest.approx(0.3)
    assert calibration.severity("SEAM", 1.0) == pytest.approx(1.0)


def tasks_of_two_sizes(critic: NetworkCritic) -> list[CritiqueTask]:
    """Five candidates, of windows of 256 and of 320 pixels."""
    photo = np.asarray(data.astronaut(), np.uint8)
    tasks = []
    for number, axes in enumerate([(30, 30), (110, 90), (40, 25), (100, 110), (35, 30)]):
        mask = ellipse((512, 512), (256, 256), axes)
        edit = DecodedEdit(f"e{number}", photo, mask)
        picture = np.where(mask[..., None] > 0.5, np.uint8(40 * number + 30), photo).astype(np.uint8)
        tasks.append(CritiqueTask(edit, critic.prepare(edit), DecodedCandidate(str(number), picture)))
    return tasks


def numbers_of(critique: Any) -> dict[str, float]:
    return {
        field.name: score.value for field, score in critique.scores.ListFields() if score.HasField("value")
    }


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)
def test_a_score_does_not_depend_on_its_batch_mates(device: str) -> None:
    critic = NetworkCritic(device=device, batched=True)
    assert critic.info.batch_count == 16
    tasks = tasks_of_two_sizes(critic)
    assert len({task.prepared.view.side for task in tasks}) == 2
    alone = [critic.critique([task], lambda: False)[0] for task in tasks]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0], [3, 1, 3, 1, 3]):
        together = critic.critique([tasks[place] for place in order], lambda: False)
        for place, critique in zip(order, together, strict=True):
            assert numbers_of(critique) == pytest.approx(numbers_of(alone[place]), abs=1e-4)
    assert len({round(numbers_of(each)["overall"], 3) for each in alone}) > 1


def test_a_batch_on_the_processor_gives_what_single_candidates_get() -> None:
    batched, single = NetworkCritic(batched=True), NetworkCritic()
    tasks = tasks_of_two_sizes(single)
    for together, alone in zip(
        batched.critique(tasks, lambda: False), single.critique(tasks, lambda: False), strict=True
    ):
        assert numbers_of(together) == pytest.approx(numbers_of(alone), abs=1e-4)
        assert numbers_of(together)
