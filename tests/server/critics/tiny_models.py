"""Untrained multimodal models of real classes, small enough for a test: LLaVA as a folder, Qwen-VL as objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BatchFeature,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "{IMAGE}{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<image>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token, so every text can be read."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(_SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|endoftext|>", eos_token="<|im_end|>", image_token="<image>"
    )


def save_llava(folder: Path) -> None:
    """A LLaVA with its processor, as `AutoModelForImageTextToText` finds it."""
    tokenizer = bytes_tokenizer()
    ends = {
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.pad_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
        ),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **_TEXT, **ends),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("{IMAGE}", "<image>"),
    ).save_pretrained(folder)


def qwen_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Two layers of text and of vision."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL}
    rope = {"mrope_section": [2, 3, 3], "rope_type": "default"}
    return Qwen2_5_VLConfig(
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer),
            "rope_scaling": rope,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )


class QwenProcessor:
    """What Qwen-VL's processor does for pictures; its own asks for torchvision because of videos."""

    def __init__(self) -> None:
        self.tokenizer = bytes_tokenizer()
        self.tokenizer.chat_template = TEMPLATE.replace(
            "{IMAGE}", "<|vision_start|><|image_pad|><|vision_end|>"
        )
        self._pictures = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 16)

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(messages, **options)

    def __call__(self, text: list[str], images: list[Image.Image], return_tensors: str) -> BatchFeature:
        seen = self._pictures(images=images, return_tensors=return_tensors)
        (told,) = text
        for grid in seen["image_grid_thw"]:
            told = told.replace("<|image_pad|>", "<|video_pad|>" * (int(grid.prod()) // 4), 1)
        told = told.replace("<|video_pad|>", "<|image_pad|>")
        tokens = self.tokenizer([told], return_tensors=return_tensors)
        ids = tokens["input_ids"]
        types = (ids == self.tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
        return BatchFeature({**tokens, **seen, "mm_token_type_ids": types})


def build_qwen() -> tuple[Any, QwenProcessor]:
    """An untrained Qwen2.5-VL and its processor."""
    processor = QwenProcessor()
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(qwen_config(processor.tokenizer)), processor
