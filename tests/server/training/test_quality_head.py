"""ELIQ's head on a frozen multimodal model: it learns orders, goes on where it stopped, and is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.multimodal.head import QualityHead, load_head, read_head, save_head
from editcritic.server.critics.multimodal.model import open_model
from editcritic.server.critics.spec import LoadOptions
from editcritic.server.training.engine_pairs import EngineAnswers, save_answers
from editcritic.server.training.quality_head import Rung, Seen, head_accuracy, train_head
from editcritic.server.training.recipes import Material, train_quality_head
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput
from tests.server.critics.tiny_models import save_llava

WIDTH = 24


def _seen(quality: float, rng: np.random.Generator) -> Seen:
    """States in which one direction, among noise, tells the quality."""
    states = rng.normal(0, 1, (20, WIDTH)).astype(np.float32)
    states[:12, 3] += 3 * quality
    return Seen(torch.from_numpy(states), torch.arange(20) < 12)


@pytest.fixture
def ladders() -> list[list[Rung]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(16):
        clean, mild, severe = (_seen(quality, rng) for quality in (1.0, 0.4, -0.4))
        made.append([Rung(clean, mild, 0), Rung(clean, severe, 0), Rung(mild, severe, 0)])
    return made


def test_orders_are_learned_and_hold_on_edits_left_aside(ladders: list[list[Rung]], tmp_path: Path) -> None:
    losses: list[float] = []
    head = train_head(ladders[4:], tmp_path, 60, told=lambda _step, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    share, count = head_accuracy(head, ladders[:4])[0]
    assert count == 12
    assert share > 0.8


def test_a_broken_run_ends_where_an_unbroken_one_ends(ladders: list[list[Rung]], tmp_path: Path) -> None:
    whole = train_head(ladders, tmp_path / "whole", 53)
    train_head(ladders, tmp_path / "broken", 50)
    resumed = train_head(ladders, tmp_path / "broken", 53)
    assert all(
        torch.equal(one, other) for one, other in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


def test_too_few_edits_are_refused(ladders: list[list[Rung]], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="too few"):
        train_head([*ladders[:3], [], []], tmp_path, 5)


def test_a_head_is_kept_with_the_name_of_its_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = QualityHead(WIDTH)
    save_head(head, "some/model", tmp_path)
    kept, model = load_head(tmp_path)
    assert model == "some/model"
    seen = _seen(0.5, np.random.default_rng(0))
    with torch.no_grad():
        assert torch.allclose(kept(seen.states, seen.seen)[0], head(seen.states, seen.seen)[0], atol=2e-2)
    (tmp_path / "quality_head.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="no quality head"):
        load_head(tmp_path)


def test_a_mean_of_zero_is_the_middle_and_doubt_is_carried_through() -> None:
    middle, sure = read_head(torch.tensor([0.0, 1.0]), torch.tensor([0.0, -8.0]))
    assert middle.value == pytest.approx(50)
    assert middle.stddev == pytest.approx(34.13, abs=0.01)
    assert sure.value == pytest.approx(84.13, abs=0.01)
    assert sure.stddev < 1


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return folder


@pytest.mark.parametrize("with_network", [False, True])
def test_photographs_and_answers_train_a_head_that_is_served(
    model_folder: Path, photo_folder: Path, tmp_path: Path, with_network: bool
) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        photo = rng.integers(0, 256, (96, 96, 3)).astype(np.uint8)
        mask = np.zeros((96, 96), np.float32)
        mask[30:60, 30:60] = 1
        answers = EngineAnswers(f"e{number}", photo, mask, [photo, photo], f"thing {number}", ["a", "b"])
        save_answers(answers, tmp_path / "answers")
    looked: list[str] = []

    def run() -> dict[int, tuple[float, int]]:
        return train_quality_head(
            open_model(str(model_folder), LoadOptions(device="cpu")),
            str(model_folder),
            Material(photo_folder),
            tmp_path / "head",
            answers=tmp_path / "answers",
            with_network=with_network,
            count=5,
            steps=4,
            told=lambda what, _done, _all: looked.append(what),
        )

    found = run()
    assert {0, 1} == set(found)
    assert looked.count("looking") == 5
    (states,) = (tmp_path / "head").glob("states*")
    assert len(list(states.iterdir())) == 10
    assert bool(load_head(tmp_path / "head")[0].features) == with_network
    assert run() == found, "states and steps that are kept are not made again"

    critic: Any = load_critic(f"multimodal@{tmp_path / 'head'}")
    assert "quality head" in critic.info.identity.calibration
    edit = DecodedEdit("e", photo, mask, prompt="a thing")
    (critique,) = critic.critique(
        [CritiqueTask(edit, critic.prepare(edit), DecodedCandidate("c", photo))], lambda: False
    )
    assert critique.scores.naturalness.status == pb.SCORE_STATUS_SCORED
    assert critique.scores.prompt_alignment.status == pb.SCORE_STATUS_SCORED
