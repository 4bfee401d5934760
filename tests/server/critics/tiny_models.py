"""Untrained multimodal models of real classes, small enough for a test: LLaVA as a folder, the others as objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BatchFeature,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
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


class OwnProcessor:
    """What a family's processor does for pictures; their own ask for torchvision because of videos.

    Args:
        pictures: image processor of the family.
        count: tokens of each picture, from what the image processor made.
        typed: whether the family is told which tokens are pictures'.
    """

    def __init__(self, pictures: Any, count: Callable[[Any], list[int]], *, typed: bool) -> None:
        self.tokenizer = bytes_tokenizer()
        self.tokenizer.chat_template = TEMPLATE.replace(
            "{IMAGE}", "<|vision_start|><|image_pad|><|vision_end|>"
        )
        self._pictures, self._count, self._typed = pictures, count, typed

    def apply_chat_template(self, messages: Any, **options: Any) -> Any:
        return self.tokenizer.apply_chat_template(messages, **options)

    def __call__(self, text: list[str], images: list[Image.Image], return_tensors: str) -> BatchFeature:
        seen = self._pictures(images=images, return_tensors=return_tensors)
        (told,) = text
        for tokens in self._count(seen):
            told = told.replace("<|image_pad|>", "<|video_pad|>" * tokens, 1)
        told = told.replace("<|video_pad|>", "<|image_pad|>")
        made = self.tokenizer([told], return_tensors=return_tensors)
        ids = made["input_ids"]
        types = (ids == self.tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
        seen.pop("num_patches", None)
        return BatchFeature({**made, **seen, **({"mm_token_type_ids": types} if self._typed else {})})


def _qwen_processor(patch: int) -> OwnProcessor:
    # Two by two patches are one token of the text.
    side = 2 * patch
    pictures = Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=side * side, max_pixels=side * side * 16)
    return OwnProcessor(
        pictures, lambda seen: [int(grid.prod()) // 4 for grid in seen["image_grid_thw"]], typed=True
    )


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL}


def _text(tokenizer: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    ids = _ids(tokenizer)
    ends = {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    return {**_TEXT, "vocab_size": len(tokenizer), "pad_token_id": ids["<|endoftext|>"], **ends, **more}


def _marks(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    ids = _ids(tokenizer)
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def build_qwen() -> tuple[Any, OwnProcessor]:
    """An untrained Qwen2.5-VL, two layers of text and of vision, and its processor."""
    processor = _qwen_processor(14)
    rope = {"mrope_section": [2, 3, 3], "rope_type": "default"}
    config = Qwen2_5_VLConfig(
        text_config=_text(processor.tokenizer, rope_scaling=rope),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        **_marks(processor.tokenizer),
    )
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config), processor


def build_qwen3() -> tuple[Any, OwnProcessor]:
    """An untrained Qwen3-VL, whose first layers of text are handed layers of vision, and its processor."""
    processor = _qwen_processor(16)
    rope = {"mrope_section": [4, 2, 2], "rope_type": "default", "rope_theta": 10_000.0}
    config = Qwen3VLConfig(
        text_config=_text(processor.tokenizer, head_dim=16, rope_parameters=rope),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **_marks(processor.tokenizer),
    )
    torch.manual_seed(0)
    return Qwen3VLForConditionalGeneration(config), processor


def build_internvl() -> tuple[Any, OwnProcessor]:
    """An untrained InternVL, which cuts a picture into tiles of 56 pixels, and its processor."""
    tiles = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    # 4 x 4 patches of a tile, joined two by two.
    processor = OwnProcessor(
        tiles, lambda seen: [4 * int(number) for number in seen["num_patches"]], typed=False
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_text(processor.tokenizer)},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
        image_token_id=_ids(processor.tokenizer)["<|image_pad|>"],
        image_seq_length=4,
    )
    torch.manual_seed(0)
    return InternVLForConditionalGeneration(config), processor
