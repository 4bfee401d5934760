"""PickScore and ImageReward: what their numbers become, on models of their own architecture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.stats import norm

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.published.base import JudgeCritic
from editcritic.server.critics.published.image_reward import RewardModel, _config, transformers_name
from editcritic.server.critics.published.pick_score import PickScore
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, ServerFault
from tests.server.critics.tiny_encoders import save_encoder, save_image_reward

Pixels = NDArray[np.uint8]
JUDGES = ("pick_score", "image_reward")
_BEFORE, _AFTER = 40, 200


class Brightness:
    """Pictures are dark or bright; every text but "nothing" means bright."""

    name, model_type, device = "brightness", "fake", torch.device("cpu")

    def __init__(self, scale: float | None = 100.0) -> None:
        self.scale = scale

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[0.0, 0.0] if text == "nothing" else [0.0, 1.0] for text in texts])

    def pictures(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        return torch.tensor([[1.0, 0.22 if picture.mean() > 100 else 0.20] for picture in pictures])


def edited(prompt: str, level: int = _AFTER) -> tuple[DecodedEdit, Pixels]:
    source = np.full((160, 200, 3), _BEFORE, np.uint8)
    edit = DecodedEdit("edit", source, np.ones(source.shape[:2], np.float32), prompt=prompt)
    return edit, np.full_like(source, level)


def judge(critic: Any, prompt: str, level: int = _AFTER) -> Any:
    edit, image = edited(prompt, level)
    task = CritiqueTask(edit, critic.prepare(edit), DecodedCandidate("one", image))
    return critic.critique([task], lambda: False)[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in JUDGES}
    save_encoder("clip", made["pick_score"])
    save_image_reward(made["image_reward"])
    return made


def test_pick_score_is_the_share_of_people_who_pick_the_edit() -> None:
    score = judge(JudgeCritic(PickScore(Brightness())), "bright").scores.prompt_alignment
    assert score.value == pytest.approx(100 / (1 + math.exp(-2)), rel=1e-5)
    assert judge(JudgeCritic(PickScore(Brightness())), "nothing").scores.prompt_alignment.value == 50
    unsure = judge(JudgeCritic(PickScore(Brightness(scale=1.0))), "bright").scores.prompt_alignment
    assert 50 < unsure.value < 51 < score.value


def test_pick_score_needs_a_scale() -> None:
    with pytest.raises(InvalidInput, match="no logit_scale"):
        PickScore(Brightness(scale=None))


@pytest.mark.parametrize("name", JUDGES)
def test_candidates_are_judged_alone(name: str, folders: dict[str, Path]) -> None:
    critic = load_critic(f"{name}@{folders[name]}?device=cpu")
    edit, _ = edited("a red photo")
    rng = np.random.default_rng(0)
    tasks = [
        CritiqueTask(edit, critic.prepare(edit), DecodedCandidate("one", picture))
        for picture in rng.integers(0, 256, (3, 160, 200, 3)).astype(np.uint8)
    ]
    together: Any = critic.critique(tasks, lambda: False)
    alone: list[Any] = [critic.critique([task], lambda: False)[0] for task in reversed(tasks)][::-1]
    values = [[each.scores.prompt_alignment.value for each in found] for found in (together, alone)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    assert len(set(values[0])) == 3


@pytest.mark.parametrize("name", JUDGES)
def test_the_prompt_and_the_picture_change_the_score(name: str, folders: dict[str, Path]) -> None:
    critic = load_critic(f"{name}@{folders[name]}")
    told = [judge(critic, prompt).scores.prompt_alignment for prompt in ("a red photo", "a blue photo")]
    darker = judge(critic, "a red photo", 120).scores.prompt_alignment
    assert len({told[0].value, told[1].value, darker.value}) == 3
    assert all(0 < each.value < 100 and each.stddev > 0 for each in (*told, darker))


@pytest.mark.parametrize("name", JUDGES)
def test_half_the_bits_give_nearly_the_same_score(name: str, folders: dict[str, Path]) -> None:
    exact, halved = (
        judge(
            load_critic(f"{name}@{folders[name]}?dtype={dtype}"), "a red photo"
        ).scores.prompt_alignment.value
        for dtype in ("float32", "bfloat16")
    )
    assert halved != exact
    assert halved == pytest.approx(exact, abs=2)


@pytest.mark.parametrize("name", JUDGES)
def test_without_a_prompt_nothing_is_judged(name: str, folders: dict[str, Path]) -> None:
    scores = judge(load_critic(f"{name}@{folders[name]}"), " ").scores
    assert scores.prompt_alignment.abstention_reason == pb.ABSTENTION_REASON_NO_PROMPT
    assert scores.naturalness.abstention_reason == pb.ABSTENTION_REASON_NOT_JUDGED


@pytest.mark.parametrize("name", JUDGES)
def test_they_tell_their_terms(name: str, folders: dict[str, Path]) -> None:
    info = load_critic(f"{name}@{folders[name]}").info
    assert info.identity.name == name
    assert "Apache-2.0" in info.description
    assert ("the source" in info.description) == (name == "pick_score")
    assert list(info.dimensions) == [pb.DIMENSION_PROMPT_ALIGNMENT]


def _copy(folder: Path, to: Path, tensors: dict[str, torch.Tensor]) -> Path:
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (to / file.name).write_bytes(file.read_bytes())
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("pick_score", "logit_scale"),
        ("pick_score", "text_projection.weight"),
        ("image_reward", "mlp.layers.7.bias"),
        ("image_reward", "text_encoder.encoder.layer.0.crossattention.self.key.weight"),
    ],
)
def test_missing_weights_are_refused(
    name: str, weight: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    tensors = load_file(folders[name] / "model.safetensors")
    del tensors[weight]
    with pytest.raises(InvalidInput, match=f"lacks 1 of .* weights, among them {weight}"):
        load_critic(f"{name}@{_copy(folders[name], tmp_path, tensors)}")


@pytest.mark.parametrize(
    ("name", "weight"), [("pick_score", "visual_projection.weight"), ("image_reward", "mlp.layers.7.weight")]
)
def test_a_number_that_is_none_is_an_error_of_that_candidate(
    name: str, weight: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    tensors = load_file(folders[name] / "model.safetensors")
    tensors[weight] = torch.full_like(tensors[weight], torch.nan)
    outcome = judge(load_critic(f"{name}@{_copy(folders[name], tmp_path, tensors)}"), "a red photo")
    assert isinstance(outcome, ServerFault)
    assert "no finite number" in outcome.message


def test_image_reward_is_told_in_the_spreads_of_its_own_data(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    tensors = load_file(folders["image_reward"] / "model.safetensors")
    tensors["mlp.layers.7.weight"].zero_()
    raw = 0.16717362830052426 + 2 * 1.0333394966054072
    tensors["mlp.layers.7.bias"].fill_(raw)
    critic = load_critic(f"image_reward@{_copy(folders['image_reward'], tmp_path, tensors)}")
    score = judge(critic, "a red photo").scores.prompt_alignment
    assert score.value == pytest.approx(100 * norm.cdf(2), abs=1e-3)
    assert score.stddev == pytest.approx(50 * (norm.cdf(2.5) - norm.cdf(1.5)), abs=1e-3)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("blip.visual_encoder.cls_token", "vision_model.embeddings.class_embedding"),
        ("blip.visual_encoder.pos_embed", "vision_model.embeddings.position_embedding"),
        ("blip.visual_encoder.patch_embed.proj.bias", "vision_model.embeddings.patch_embedding.bias"),
        ("blip.visual_encoder.blocks.0.norm2.weight", "vision_model.encoder.layers.0.layer_norm2.weight"),
        ("blip.visual_encoder.blocks.0.attn.qkv.bias", "vision_model.encoder.layers.0.self_attn.qkv.bias"),
        (
            "blip.visual_encoder.blocks.0.attn.proj.bias",
            "vision_model.encoder.layers.0.self_attn.projection.bias",
        ),
        ("blip.visual_encoder.blocks.0.mlp.fc1.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"),
        ("blip.visual_encoder.norm.weight", "vision_model.post_layernorm.weight"),
        (
            "blip.text_encoder.encoder.layer.0.crossattention.self.key.weight",
            "text_encoder.encoder.layer.0.crossattention.self.key.weight",
        ),
        ("mlp.layers.4.weight", "mlp.layers.4.weight"),
    ],
)
def test_the_published_names_are_read(published: str, ours: str, folders: dict[str, Path]) -> None:
    assert transformers_name(published) == ours
    assert ours in load_file(folders["image_reward"] / "model.safetensors")


def test_image_reward_has_the_published_size_unless_told_otherwise(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = RewardModel(_config(tmp_path))
    # The published file of float32 has 1.79 GB.
    assert 4 * sum(weight.numel() for weight in model.parameters()) == pytest.approx(1.79e9, abs=0.01e9)


def test_image_reward_reads_folders_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is no folder"):
        load_critic("image_reward@owner/model")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match="holds no ImageReward"):
        load_critic(f"image_reward@{tmp_path}")
