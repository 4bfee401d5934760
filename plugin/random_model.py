"""Multimodal models of a stated size with random weights, and what the critic would show them: for timing alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = [
    "SHAPES",
    "Shape",
    "build_random_model",
    "count_weights",
    "question_tokens",
    "random_question",
]

_TEXT_TOKENS = 160
"""Of a rating question with its turn marks, about."""
_PATCH, _MERGE, _CHANNELS, _FRAMES = 14, 2, 3, 2
_IMAGE, _START, _FIRST_WORD = 0, 1, 2
_ENDS = {"bos_token_id": _FIRST_WORD, "eos_token_id": _FIRST_WORD}
_SEED = 0


@dataclass(frozen=True)
class Shape:
    """Sizes of a model of Qwen2.5-VL's classes.

    Attributes:
        text: of the language model, in the words of transformers' configuration.
        vision: of the vision model.
        tied: whether the words' vectors serve twice, going in and coming out.
        pictures: (height, width) of each picture that is shown: before, after, outlined, the whole photograph.
    """

    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    tied: bool
    pictures: tuple[tuple[int, int], ...]


_LARGE_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
_SHOWN = ((448, 448), (448, 448), (448, 448), (336, 448))
SHAPES: Mapping[str, Shape] = {
    "tiny": Shape(
        {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
        },
        {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "fullatt_block_indexes": [1],
        },
        True,
        ((112, 112),) * 4,
    ),
    "2b": Shape(
        {
            "vocab_size": 151_936,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        _LARGE_VISION,
        True,
        _SHOWN,
    ),
    "8b": Shape(
        {
            "vocab_size": 152_064,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        _LARGE_VISION,
        False,
        _SHOWN,
    ),
}
"""By name: `2b` has the sizes of Qwen2-VL-2B with Qwen2.5-VL's vision model, `8b` those of Qwen2.5-VL-7B."""


def build_random_model(shape: Shape, place: str, kind: torch.dtype, *, quantised: bool = False) -> Any:
    """A model of random weights, made on its device in its numbers: main memory never holds it.

    Args:
        place: "cpu", "cuda", "cuda:1"; "meta" for sizes without weights.
        kind: numbers of the weights, or of the reckoning where they are quantised.
        quantised: weights of four bits (bitsandbytes); made from `kind`, layer by layer.
    """
    import torch
    from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

    config = Qwen2_5_VLConfig(
        text_config={**shape.text, "tie_word_embeddings": shape.tied, **_ENDS},
        vision_config={**shape.vision, "out_hidden_size": shape.text["hidden_size"]},
        tie_word_embeddings=shape.tied,
        image_token_id=_IMAGE,
        vision_start_token_id=_START,
        # The last word, which no question has: nothing is taken for a video.
        video_token_id=shape.text["vocab_size"] - 1,
    )
    torch.manual_seed(_SEED)
    with torch.device(place):
        model = AutoModelForImageTextToText.from_config(config, dtype=kind).eval()
    if quantised:
        _quantise(model, kind)
    return model


def _quantise(model: Any, kind: torch.dtype) -> None:
    """Put four-bit layers in the place of linear ones, all but the last, as transformers does when it loads."""
    import bitsandbytes as bnb
    import torch

    for name, layer in list(model.named_modules()):
        if not isinstance(layer, torch.nn.Linear) or name == "lm_head":
            continue
        place = layer.weight.device
        small = bnb.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=kind,
            quant_type="nf4",
            device="meta",
        )
        # From the CPU, because weights are quantised on their way to a GPU.
        small.weight = bnb.nn.Params4bit(layer.weight.data.cpu(), requires_grad=False, quant_type="nf4")
        small.bias = layer.bias
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, small.to(place))


def count_weights(shape: Shape) -> int:
    """How many weights a model of that shape has; none of them is made."""
    import torch

    model = build_random_model(shape, "meta", torch.bfloat16)
    return sum(weight.numel() for weight in model.parameters())


def question_tokens(shape: Shape) -> int:
    """Tokens of one candidate: one for 28 by 28 pixels, two marks around each picture, and the words."""
    return sum(_picture_tokens(shape)) + 2 * len(shape.pictures) + _TEXT_TOKENS


def _picture_tokens(shape: Shape) -> list[int]:
    side = _PATCH * _MERGE
    return [(height // side) * (width // side) for height, width in shape.pictures]


def random_question(shape: Shape, count: int, model: Any) -> dict[str, torch.Tensor]:
    """What the critic hands to a model for one rating, `count` candidates in a batch: four pictures and a question."""
    import torch

    made = torch.Generator().manual_seed(_SEED)
    grids = torch.tensor([[1, height // _PATCH, width // _PATCH] for height, width in shape.pictures])
    patches = int(grids.prod(1).sum())
    pixels = torch.randn(count * patches, _CHANNELS * _FRAMES * _PATCH * _PATCH, generator=made)
    row = []
    for tokens in _picture_tokens(shape):
        row += [_START, *[_IMAGE] * tokens, _FIRST_WORD]
    words = torch.randint(_FIRST_WORD, shape.text["vocab_size"] - 1, (count, _TEXT_TOKENS), generator=made)
    ids = torch.cat([torch.tensor([row]).expand(count, -1), words], 1)
    question = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == _IMAGE).long(),
        "pixel_values": pixels.to(model.dtype),
        "image_grid_thw": grids.repeat(count, 1),
    }
    return {name: tensor.to(model.device) for name, tensor in question.items()}
