"""The training stages: what each asks for, and that a run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from editcritic.server.critics.network.model import KINDS, SCORES, EditNetwork, EditOutput
from editcritic.server.critics.network.runner import load_network
from editcritic.server.training.adaptation import adapt_network, order_accuracy
from editcritic.server.training.batches import LabelledBatch, collate, to_input
from editcritic.server.training.curves import draw_log
from editcritic.server.training.engine_pairs import EngineAnswers, as_group, read_answers, save_answers
from editcritic.server.training.losses import (
    defect_losses,
    grounding_loss,
    listwise_loss,
    ranking_loss,
    score_losses,
    triplet_loss,
)
from editcritic.server.training.pairs import PairSource, Photographs
from editcritic.server.training.stages import STAGES, Stage, stage_losses
from editcritic.server.training.trainer import Report, Trainer, TrainingRun
from editcritic.v1.errors import InvalidInput

SIDE = 64


@pytest.fixture(scope="module")
def batch(photographs: Photographs) -> LabelledBatch:
    source = PairSource(photographs, SIDE, seed=2)
    return collate([source.group(i) for i in range(4)])


def said(batch: LabelledBatch, quality: Tensor, log_variance: float = 0.0) -> EditOutput:
    """What a network would say that rates each candidate with `quality` on every score."""
    count, cells = len(quality), SIDE // 4
    return EditOutput(
        mean=quality[:, None].repeat(1, len(SCORES)),
        log_variance=torch.full((count, len(SCORES)), log_variance),
        kinds=torch.zeros(count, len(KINDS)),
        maps=torch.zeros(count, len(KINDS), cells, cells),
        edited=torch.zeros(count, 1, cells, cells),
        embedding=torch.zeros(count, 8),
        figures=torch.zeros(count, 1, 1),
    )


@pytest.mark.parametrize("loss", [ranking_loss, listwise_loss])
def test_the_right_order_costs_less_than_none_and_the_wrong_one_more(
    loss: Callable[..., Tensor], batch: LabelledBatch
) -> None:
    right, none, wrong = (float(loss(said(batch, sign * batch.severity), batch)) for sign in (-4, 0, 4))
    assert right < none < wrong


def test_a_wrong_order_costs_less_when_it_was_said_with_doubt(batch: LabelledBatch) -> None:
    sure, doubtful = (
        float(ranking_loss(said(batch, 4 * batch.severity, spread), batch)) for spread in (0, 3)
    )
    assert doubtful < sure


def test_nothing_is_asked_between_contents(batch: LabelledBatch) -> None:
    shift = torch.arange(4.0).repeat_interleave(4) * 10
    one = ranking_loss(said(batch, -batch.severity), batch)
    other = ranking_loss(said(batch, shift - batch.severity), batch)
    assert float(one) == pytest.approx(float(other), rel=1e-4)


def test_the_scale_wants_clean_answers_high_and_severe_faults_low(batch: LabelledBatch) -> None:
    good = torch.where(batch.severity > 0, 1.5 - 4 * batch.severity, 3.0)
    assert float(score_losses(said(batch, good), batch)) < float(score_losses(said(batch, -good), batch))


def test_the_milder_fault_has_to_lie_nearer_to_the_clean_answer(batch: LabelledBatch) -> None:
    def embedded(order: list[float]) -> EditOutput:
        angles = torch.tensor(order).repeat(4)
        vectors = torch.stack([torch.cos(angles), torch.sin(angles)], 1)
        return replace(said(batch, batch.severity), embedding=vectors)

    right = triplet_loss(embedded([0.0, 0.3, 1.2, 0.6]), batch)
    wrong = triplet_loss(embedded([0.0, 1.2, 0.3, 0.6]), batch)
    assert float(right) < float(wrong)


def test_the_right_map_and_the_right_kind_cost_least(batch: LabelledBatch) -> None:
    known = said(batch, -batch.severity)
    truth = batch.kind[..., None, None] * batch.injured[:, None]
    kinds, maps = defect_losses(replace(known, kinds=8 * batch.kind - 4, maps=12 * truth - 6), batch)
    blind_kinds, blind_maps = defect_losses(known, batch)
    assert float(kinds) < float(blind_kinds)
    assert float(maps) < float(blind_maps)


def test_grounding_wants_the_edited_region(batch: LabelledBatch) -> None:
    inside = torch.nn.functional.avg_pool2d(batch.regions[:, :2].sum(1, keepdim=True).float() / 255, 4)
    found = replace(said(batch, batch.severity), edited=(12 * inside - 6).repeat_interleave(4, 0))
    assert (
        float(grounding_loss(found, batch)) < 0.3 < float(grounding_loss(said(batch, batch.severity), batch))
    )


def test_a_kind_that_would_not_be_wrong_is_free(batch: LabelledBatch) -> None:
    known = said(batch, -batch.severity)
    loss, _ = defect_losses(known, batch)
    freed, _ = defect_losses(replace(known, kinds=known.kinds + 9 * batch.open), batch)
    assert float(loss) == pytest.approx(float(freed))


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_every_stage_reaches_the_weights_that_it_is_for(stage: Stage, batch: LabelledBatch) -> None:
    torch.manual_seed(0)
    network = EditNetwork()
    loss, parts = stage_losses(stage, network(to_input(batch)), batch)
    loss.backward()
    assert set(parts) == set(stage.weights)
    assert network.encoder.first[0][0].weight.grad.abs().sum() > 0


def short(name: str, steps: int) -> Stage:
    return replace(STAGES[name], side=SIDE, groups=2, steps=steps)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editcritic.server.training.trainer._SAVE_STEPS", 2)
    reports: list[Report] = []
    unbroken = Trainer(TrainingRun(photographs, tmp_path / "one", seed=3, workers=0))
    unbroken.train(short("scoring", 4), reports.append)

    class Stopped(Exception):
        pass

    broken = Trainer(TrainingRun(photographs, tmp_path / "two", seed=3, workers=0))
    step, count = broken._one_step, iter(range(100))

    def stop_at_third(*arguments: object) -> None:
        if next(count) == 2:
            raise Stopped
        step(*arguments)

    monkeypatch.setattr(broken, "_one_step", stop_at_third)
    with pytest.raises(Stopped):
        broken.train(short("scoring", 4))
    resumed = Trainer(TrainingRun(photographs, tmp_path / "two", seed=3, workers=0))
    resumed.train(short("scoring", 4))
    for name, tensor in unbroken.network.state_dict().items():
        assert torch.equal(tensor, resumed.network.state_dict()[name]), name


def test_a_stage_that_is_done_is_not_done_again(photographs: Photographs, tmp_path: Path) -> None:
    run = TrainingRun(photographs, tmp_path, seed=3, workers=0)
    Trainer(run).train(short("triplets", 1))
    written = (tmp_path / "network.safetensors").stat().st_mtime_ns
    Trainer(run).train(short("triplets", 1))
    assert (tmp_path / "network.safetensors").stat().st_mtime_ns == written
    load_network(tmp_path / "network.safetensors")


def test_the_log_is_drawn(photographs: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editcritic.server.training.trainer._REPORT_STEPS", 1)
    Trainer(TrainingRun(photographs, tmp_path, workers=0)).train(short("grounding", 2))
    draw_log(tmp_path / "log.csv", tmp_path / "log.png")
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidInput, match="no training log"):
        draw_log(tmp_path / "none.csv", tmp_path / "none.png")


@pytest.fixture(scope="module")
def answers(photographs: Photographs) -> list[EngineAnswers]:
    """What a poor engine gives: the photograph itself, and ever more noise."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(10):
        photo = photographs.images[number % len(photographs.images)]
        mask = np.zeros(photo.shape[:2], np.float32)
        mask[40:100, 50 + number : 110 + number] = 1
        noisy = [
            np.clip(photo + mask[..., None] * rng.normal(0, level, photo.shape), 0, 255).astype(np.uint8)
            for level in (0, 20, 40, 80)
        ]
        made.append(EngineAnswers(f"e{number}", photo, mask, noisy, "a ball", ["20", "7", "4", "2"]))
    return made


def test_an_engines_answers_are_kept_as_files(answers: list[EngineAnswers], tmp_path: Path) -> None:
    for each in answers[:2]:
        save_answers(each, tmp_path)
    kept = list(read_answers(tmp_path))
    assert [each.name for each in kept] == ["e0", "e1"]
    assert np.array_equal(kept[1].answers[3], answers[1].answers[3])
    with pytest.raises(InvalidInput, match="no answers"):
        list(read_answers(tmp_path / "elsewhere"))


def test_adapting_improves_the_order_of_an_engines_answers(
    answers: list[EngineAnswers], photographs: Photographs
) -> None:
    torch.manual_seed(1)
    network = EditNetwork()
    before, pairs = order_accuracy(network, answers)
    adapt_network(network, answers[:9], photographs, steps=8, seed=1)
    after, _ = order_accuracy(network, answers)
    assert pairs == 60
    assert after > max(before, 0.6)


def test_too_few_answers_are_refused(answers: list[EngineAnswers], photographs: Photographs) -> None:
    with pytest.raises(InvalidInput, match="too few"):
        adapt_network(EditNetwork(), answers[:3], photographs, steps=1)


def test_a_group_of_answers_claims_an_order_only(answers: list[EngineAnswers]) -> None:
    group = as_group(answers[0])
    assert group is not None
    assert list(group.severities) == sorted(group.severities)
    assert not group.injured.any()
