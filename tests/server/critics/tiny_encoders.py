"""Untrained models that compare words with pictures, as folders small enough for a test: CLIP, SigLIP, ImageReward."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BlipConfig,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from editcritic.server.critics.dual_encoder.reading import _UNRELATED
from editcritic.server.critics.published.image_reward import RewardModel

SIDE = 32
_COLOURS = ("red", "green", "blue")
_PART = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def save_parts(folder: Path) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, and what reads pictures."""
    words = ["<pad>", "<unk>", "<s>", "a", "photo", "of", *_COLOURS, *_UNRELATED, "</s>"]
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", len(words) - 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", bos_token="<s>"
    )
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return tokenizer


def save_encoder(kind: str, folder: Path) -> None:
    """An untrained model of this family, "clip" or "siglip"."""
    tokenizer = save_parts(folder)
    torch.manual_seed(0)
    text = _PART | {"vocab_size": len(tokenizer), "max_position_embeddings": 16}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = _PART | {"image_size": SIDE, "patch_size": 8}
    if kind == "clip":
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        CLIPModel(config).save_pretrained(folder)
    else:
        text |= {"projection_size": 32}
        SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)


def save_image_reward(folder: Path) -> RewardModel:
    """An untrained ImageReward under transformers' names; its weights are large enough for numbers to differ."""
    tokenizer = save_parts(folder)
    torch.manual_seed(0)
    config = BlipConfig(
        text_config=_PART | {"vocab_size": len(tokenizer), "encoder_hidden_size": 32},
        vision_config=_PART | {"image_size": SIDE, "patch_size": 8, "initializer_range": 0.1},
    )
    model = RewardModel(config)
    for name, weight in model.named_parameters():
        if name.endswith("weight") and weight.ndim > 1:
            torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    config.save_pretrained(folder)
    save_file(dict(model.state_dict()), folder / "model.safetensors")
    return model
