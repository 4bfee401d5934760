"""Tuning the prompts of a dual encoder on a few labels, with a tiny CLIP built from a configuration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from editcritic.server.training.prompt_tuning import PromptTuning, TunedPrompts, without_component
from editcritic.v1.errors import InvalidInput


class Words:
    """A tokenizer of whole words: begin, words by their letters' sum, end."""

    def __call__(self, texts: list[str], **_options: Any) -> dict[str, torch.Tensor]:
        rows = [[0, *(3 + sum(map(ord, word)) % 90 for word in text.split()), 99] for text in texts]
        return {"input_ids": torch.tensor(rows)}


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(0)
    part = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**part, "vocab_size": 100, "max_position_embeddings": 16, "eos_token_id": 99}
    vision = {**part, "image_size": 32, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()


@pytest.fixture(scope="module")
def labelled() -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty pictures, of which the bright ones are good."""
    torch.manual_seed(1)
    labels = (torch.arange(20) % 2).float()
    return torch.randn(20, 3, 32, 32) * 0.3 + (2 * labels - 1)[:, None, None, None], labels


def test_a_few_labels_teach_the_words_what_is_good(
    clip: CLIPModel, labelled: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = labelled
    settings = PromptTuning(steps=40)
    prompts = TunedPrompts(clip, Words(), settings)
    weights = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    losses = prompts.fit(images, labels, settings)
    assert losses[-1] < 0.8 * losses[0]
    good = prompts(images)[labels == 1].mean()
    assert good > prompts(images)[labels == 0].mean()
    assert all(torch.equal(tensor, clip.state_dict()[name]) for name, tensor in weights.items())


def test_the_same_seed_learns_the_same(clip: CLIPModel, labelled: tuple[torch.Tensor, torch.Tensor]) -> None:
    settings = PromptTuning(steps=3)
    contexts = []
    for _ in range(2):
        prompts = TunedPrompts(clip, Words(), settings)
        prompts.fit(*labelled, settings)
        contexts.append(prompts.context.detach())
    assert torch.equal(*contexts)


def test_the_component_that_moves_the_scene_is_taken_out() -> None:
    along, across = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    kept = without_component(2 * along + 3 * across, along)
    assert torch.allclose(kept, 3 * across)
    against = across - along
    assert torch.equal(without_component(against, along), against)


def test_too_few_labels_are_refused(clip: CLIPModel) -> None:
    prompts = TunedPrompts(clip, Words(), PromptTuning())
    with pytest.raises(InvalidInput, match="too few"):
        prompts.fit(torch.zeros(3, 3, 32, 32), torch.ones(3), PromptTuning())
