"""ImageReward: BLIP reads the words while it looks at the picture, and a small network makes one number of it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.stats import norm
from torch import Tensor, nn

from editcritic.server.critics.placement import place_for
from editcritic.server.critics.published.base import JudgeCritic, Rating, Shown, Terms
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["ImageReward", "RewardModel", "open_image_reward", "transformers_name"]

_MEAN, _SPREAD = 0.16717362830052426, 1.0333394966054072
"""Of the raw number over the authors' own data; ImageReward/ImageReward.py of github.com/THUDM/ImageReward."""
_LONGEST = 35
_DOUBT = 0.5
"""Standard deviation of a reward: what another wording moves it by, of the order of one half."""
_RENAMED = (
    (r"^blip\.", ""),
    (r"^visual_encoder\.(cls_token)$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.(pos_embed)$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (
        r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.",
        r"vision_model.encoder.layers.\1.self_attn.projection.",
    ),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.", r"vision_model.encoder.layers.\1.self_attn."),
    (r"^visual_encoder\.blocks\.", "vision_model.encoder.layers."),
)


class RewardModel(nn.Module):
    """A picture and words -> one raw number: 768-1024-128-64-16-1 over BLIP's first state, without rectifiers.

    Args:
        config: `BlipConfig` of transformers.
    """

    def __init__(self, config: Any) -> None:
        from transformers import BlipTextModel, BlipVisionModel

        super().__init__()
        self.vision_model = BlipVisionModel(config.vision_config)
        self.text_encoder = BlipTextModel(config.text_config, add_pooling_layer=False)
        widths = (config.text_config.hidden_size, 1024, 128, 64, 16, 1)
        first, second, third, fourth, last = (nn.Linear(*pair) for pair in pairwise(widths))
        # The published weights count the dropout of training.
        layers = (first, nn.Identity(), second, nn.Identity(), third, nn.Identity(), fourth, last)
        self.mlp = nn.Sequential(OrderedDict(layers=nn.Sequential(*layers)))

    def forward(self, pixels: Tensor, ids: Tensor, attended: Tensor) -> Tensor:
        """Rewards (N,) of pictures (N, 3, S, S) and the words' tokens (N, T), with their attention mask."""
        seen = self.vision_model(pixel_values=pixels).last_hidden_state
        read = self.text_encoder(input_ids=ids, attention_mask=attended, encoder_hidden_states=seen)
        reward: Tensor = self.mlp(read.last_hidden_state[:, 0])
        return reward[:, 0]


class ImageReward:
    """One forward pass; the reward in the spreads of the authors' own data."""

    name = "image_reward"
    dimensions: Sequence[pb.Dimension.ValueType] = (pb.DIMENSION_PROMPT_ALIGNMENT,)
    terms = Terms(
        source="ImageReward (Xu et al. 2023)",
        licence="Apache-2.0",
        sees_source=False,
        sees_mask=False,
        meaning=(
            "100 times the normal distribution at the reward, which has mean 0 and spread 1 over the authors' own"
            " pictures: 50 is their average. It rates the region as a picture for the prompt, looks included."
        ),
    )

    def __init__(self, model: RewardModel, tokenizer: Any, pictures: Any, name: str) -> None:
        self._network, self._tokenizer, self._pictures = model.eval(), tokenizer, pictures
        self._weights = next(model.parameters())
        self.model, self.device = name, str(self._weights.device)

    def rate(self, shown: Shown) -> Mapping[pb.Dimension.ValueType, Rating]:
        """Prompt alignment, where there is a prompt."""
        if not shown.prompt:
            return {}
        reward = (self._reward(shown.after, shown.prompt) - _MEAN) / _SPREAD
        low, high = (float(norm.cdf(reward + sign * _DOUBT)) for sign in (-1, 1))
        return {pb.DIMENSION_PROMPT_ALIGNMENT: Rating(100 * float(norm.cdf(reward)), 50 * (high - low))}

    @torch.inference_mode()
    def _reward(self, picture: NDArray[Any], prompt: str) -> float:
        told = self._tokenizer([prompt], truncation=True, max_length=_LONGEST, return_tensors="pt")
        read = self._pictures(images=[picture], return_tensors="pt", input_data_format="channels_last")
        pixels = read["pixel_values"].to(self._weights.device, self._weights.dtype)
        words = (told[name].to(self._weights.device) for name in ("input_ids", "attention_mask"))
        return float(self._network(pixels, *words)[0])


def transformers_name(name: str) -> str:
    """The name in transformers of a tensor of the published file; other names stay."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def open_image_reward(weights: str, options: LoadOptions = AS_IT_IS) -> JudgeCritic:
    """The judge of a folder: safetensors under the published names or those of transformers, and a tokenizer.

    Without a `config.json` the model has the published size: ViT-L/16 at 224 pixels, BERT base.

    Raises:
        InvalidInput: transformers or the device is missing, or the folder lacks weights or a tokenizer.
    """
    folder = Path(weights)
    if not folder.is_dir():
        raise InvalidInput(
            f"{weights} is no folder; docs/models.md says how to make one of the published weights"
        )
    try:
        from transformers import AutoTokenizer, CLIPImageProcessor
    except ImportError as error:
        raise InvalidInput("ImageReward needs transformers: pip install 'editcritic[models]'") from error
    try:
        config = _config(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = _filled(RewardModel(config), folder)
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise InvalidInput(f"{folder} holds no ImageReward that can be loaded: {error}") from error
    side = config.vision_config.image_size
    pictures = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    kind = getattr(torch, options.dtype or "float32")
    return JudgeCritic(
        ImageReward(model.to(place_for(options.device), kind), tokenizer, pictures, folder.name)
    )


def _config(folder: Path) -> Any:
    from transformers import BlipConfig

    if (folder / "config.json").exists():
        return BlipConfig.from_pretrained(folder)
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    return BlipConfig(
        vision_config={**vision, "image_size": 224, "layer_norm_eps": 1e-6},
        text_config={"num_attention_heads": 12, "encoder_hidden_size": 1024},
    )


def _filled(model: RewardModel, folder: Path) -> RewardModel:
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= {transformers_name(name): tensor for name, tensor in load_file(file).items()}
    missing = model.load_state_dict(found, strict=False).missing_keys
    if missing:
        raise InvalidInput(f"{folder} lacks {len(missing)} of ImageReward's weights, among them {missing[0]}")
    return model
