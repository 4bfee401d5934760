"""Instruction tuning: lessons from groups, adapters on a tiny model, every stage, broken off and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.multimodal.claims import read_claims
from editcritic.server.critics.multimodal.levels import LEVELS
from editcritic.server.critics.multimodal.model import MultimodalModel, open_model
from editcritic.server.critics.multimodal.showing import show
from editcritic.server.critics.spec import LoadOptions
from editcritic.server.training.instruction.lessons import STAGES, lessons_of
from editcritic.server.training.instruction.opinions import opinion_lessons
from editcritic.server.training.instruction.settings import TuningSettings, read_settings
from editcritic.server.training.instruction.tuning import InstructionTuner
from editcritic.server.training.pairs import Group, PairSource, Photographs
from editcritic.server.training.suites.opinion import LAYOUTS, OpinionRow, read_opinions
from editcritic.v1.errors import InvalidInput
from tests.server.critics.tiny_models import build_qwen, save_llava


@pytest.fixture(scope="module")
def group(photographs: Photographs) -> Group:
    return PairSource(photographs, 128, 3, names=("blur", "flat")).group(1)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return folder


def test_the_box_of_the_edit_is_the_masks(group: Group) -> None:
    lessons = lessons_of(group, "grounding")
    left, top, right, bottom = json.loads(lessons[0].answer)["box"]
    rows, columns = np.nonzero(group.alpha >= 0.5)
    assert left == pytest.approx(1000 * columns.min() / 128, abs=1)
    assert bottom == pytest.approx(1000 * (rows.max() + 1) / 128, abs=1)
    assert left < right
    assert top < bottom
    assert len(lessons) == len(group.candidates)
    assert all(len(lesson.pictures) == 2 for lesson in lessons)


def test_graver_faults_get_worse_words(group: Group) -> None:
    lessons = lessons_of(group, "scoring")
    words = [lesson.answer for lesson in lessons[::2]]
    clean = [word for word, name in zip(words, group.injected, strict=True) if not name]
    assert set(clean) == {"excellent"}
    ranks = [LEVELS.index(word) for word in words]
    order = np.argsort(group.severities)
    assert list(np.array(ranks)[order]) == sorted(ranks)
    assert max(ranks) > 0


def test_explanations_are_what_the_critic_would_read(group: Group) -> None:
    crop = show(DecodedEdit("e", group.source, group.alpha)).crop
    for lesson, name in zip(lessons_of(group, "explanation"), group.injected, strict=True):
        claims = read_claims(lesson.answer, crop)
        assert len(claims) == bool(name)


def test_shipped_settings_are_read_and_wrong_ones_told(tmp_path: Path) -> None:
    small, large = read_settings("gpu_24gb"), read_settings("gpu_80gb")
    assert (small.bits, large.bits) == (4, 0)
    assert large.rank > small.rank
    file = tmp_path / "mine.ini"
    file.write_text("[tuning]\nrank = 4\nspeed = 9\n")
    with pytest.raises(InvalidInput, match="speed"):
        read_settings(str(file))
    file.write_text("rank = 4")
    with pytest.raises(InvalidInput, match="shipped are"):
        read_settings(str(file))
    with pytest.raises(InvalidInput, match="gpu_24gb"):
        read_settings("gpu_1tb")


@pytest.fixture
def settings() -> TuningSettings:
    return read_settings("smoke")


def _adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_every_stage_runs_and_a_broken_run_ends_where_an_unbroken_one_ends(
    llava: Path, photographs: Photographs, settings: TuningSettings, tmp_path: Path
) -> None:
    seen: list[tuple[str, int]] = []
    whole = InstructionTuner(
        open_model(str(llava), LoadOptions(device="cpu")), settings, tmp_path / "whole", seed=5
    )
    whole.train(photographs, lambda stage, step, _steps, loss: seen.append((stage, step)))
    assert seen == [(stage, step) for stage in STAGES for step in (1, 2)]

    half = replace(settings, scoring=1, explanation=0)
    InstructionTuner(
        open_model(str(llava), LoadOptions(device="cpu")), half, tmp_path / "half", seed=5
    ).train(photographs)
    rest: list[str] = []
    InstructionTuner(
        open_model(str(llava), LoadOptions(device="cpu")), settings, tmp_path / "half", seed=5
    ).train(photographs, lambda stage, *_now: rest.append(stage))
    assert rest == ["scoring", "explanation", "explanation"]
    one, other = _adapter(tmp_path / "whole"), _adapter(tmp_path / "half")
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
    assert any(tensor.abs().max() > 0 for name, tensor in one.items() if "lora_B" in name)

    critic: Any = load_critic(f"multimodal@{tmp_path / 'whole'}")
    assert critic.info.identity.name == "multimodal"


@pytest.fixture
def opinions(tmp_path: Path) -> list[OpinionRow]:
    rows = ["edited,overall_quality,source,mask,prompt"]
    for number in range(6):
        picture = np.full((60, 80, 3), 40 * number, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number},{number}.png,mask.png,a cat")
    mask = np.zeros((60, 80), np.uint8)
    mask[15:45, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return read_opinions(tmp_path / "table.csv", tmp_path, LAYOUTS["epaiqa"])


def test_opinions_teach_the_box_and_the_word(opinions: list[OpinionRow]) -> None:
    words = [lesson().answer for lesson in opinion_lessons(opinions, "scoring")]
    assert words == ["bad", "poor", "fair", "good", "excellent", "excellent"]
    boxes = {lesson().answer for lesson in opinion_lessons(opinions, "grounding")}
    assert boxes == {json.dumps({"box": [250, 250, 750, 750]})}
    assert not opinion_lessons(opinions, "explanation")
    assert not opinion_lessons(opinions[:3], "scoring")


def test_every_second_lesson_is_an_opinion(
    llava: Path,
    photographs: Photographs,
    opinions: list[OpinionRow],
    settings: TuningSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes: list[tuple[int, ...]] = []
    model = open_model(str(llava), LoadOptions(device="cpu"))
    tuner = InstructionTuner(model, replace(settings, scoring=0, explanation=0), tmp_path / "out")
    plain = model.answer_loss

    def watched(pictures: Any, *asked: Any) -> torch.Tensor:
        shapes.append(pictures[0].shape)
        return plain(pictures, *asked)

    monkeypatch.setattr(model, "answer_loss", watched)
    tuner.train(photographs, opinions=opinions)
    assert [shape == (60, 80, 3) for shape in shapes] == [False, True, False, True]


def test_a_few_steps_on_one_lesson_make_its_answer_likelier(
    photographs: Photographs, settings: TuningSettings, tmp_path: Path
) -> None:
    model = MultimodalModel(*build_qwen(), "qwen")
    InstructionTuner(model, settings, tmp_path)
    lesson = lessons_of(PairSource(photographs, 128, 3).group(0), "scoring")[0]
    learned = [parameter for _, parameter in model.named_parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learned, 2e-2)
    losses = []
    for _ in range(6):
        loss = model.answer_loss(lesson.pictures, lesson.question, lesson.answer, lesson.begin)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_layers_that_are_not_there_are_told(llava: Path, settings: TuningSettings, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot get these adapters"):
        InstructionTuner(
            open_model(str(llava), LoadOptions(device="cpu")),
            replace(settings, targets=("w_nowhere",)),
            tmp_path,
        )
