"""Nine inpainting pipelines with random weights: a tenth of a second each, built without a download.

Each builder returns the pipeline and the arguments that stand in for a prompt. Sizes that fit together are measured on
diffusers 0.42.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

__all__ = ["TINY_PIPELINES", "tiny_pipeline"]

Built: TypeAlias = "tuple[Any, dict[str, Any]]"
_TOKENS = 7


def _embeddings(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def _vae(latent_channels: int, **config: Any) -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent_channels,
        norm_num_groups=4,
        force_upcast=False,
        **config,
    )


def _unet(in_channels: int, **config: Any) -> Any:
    options: dict[str, Any] = {"cross_attention_dim": 32} | config
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=2,
        **options,
    )


def _clip() -> tuple[Any, Any]:
    letters = sorted(ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)}, merges=[], model_max_length=12
    )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return CLIPTextModel(config), tokenizer


def _sd(in_channels: int) -> Built:
    text_encoder, tokenizer = _clip()
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        vae=_vae(4),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=_unet(in_channels),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return pipeline, {}


def _sdxl() -> Built:
    unet = _unet(
        4,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )
    pipeline = diffusers.StableDiffusionXLInpaintPipeline(
        vae=_vae(4),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(),
    )
    prompt = {
        "prompt_embeds": _embeddings(1, _TOKENS, 64),
        "negative_prompt_embeds": torch.zeros(1, _TOKENS, 64),
        "pooled_prompt_embeds": _embeddings(1, 32),
        "negative_pooled_prompt_embeds": torch.zeros(1, 32),
    }
    return pipeline, prompt


def _sd3() -> Built:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=1,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=16,
    )
    pipeline = diffusers.StableDiffusion3InpaintPipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(16, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    prompt = {
        "prompt_embeds": _embeddings(1, _TOKENS, 32),
        "negative_prompt_embeds": torch.zeros(1, _TOKENS, 32),
        "pooled_prompt_embeds": _embeddings(1, 64),
        "negative_pooled_prompt_embeds": torch.zeros(1, 64),
    }
    return pipeline, prompt


def _flux(kind: type[Any], in_channels: int, out_channels: int | None = None, guided: bool = False) -> Built:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=in_channels,
        out_channels=out_channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guided,
    )
    pipeline = kind(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(2, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer,
    )
    return pipeline, {
        "prompt_embeds": _embeddings(1, _TOKENS, 32),
        "pooled_prompt_embeds": _embeddings(1, 32),
    }


def _qwen() -> Built:
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=24,
        z_dim=4,
        dim_mult=[1, 2, 4],
        temperal_downsample=[False, True],
        latents_mean=[0.1] * 4,
        latents_std=[1.2] * 4,
    )
    pipeline = diffusers.QwenImageInpaintPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )
    mask = torch.ones(1, _TOKENS, dtype=torch.long)
    prompt = {
        "prompt_embeds": _embeddings(1, _TOKENS, 16),
        "prompt_embeds_mask": mask,
        "negative_prompt_embeds": torch.zeros(1, _TOKENS, 16),
        "negative_prompt_embeds_mask": mask,
    }
    return pipeline, prompt


def _z_image() -> Built:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[64, 64, 64],
    )
    pipeline = diffusers.ZImageInpaintPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(16, shift_factor=0.1, scaling_factor=0.4, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
    )
    return pipeline, {"prompt_embeds": [_embeddings(_TOKENS, 16)], "negative_prompt_embeds": []}


TINY_PIPELINES: dict[str, Callable[[], Built]] = {
    "sd": lambda: _sd(4),
    "sd-inpaint": lambda: _sd(9),
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux": lambda: _flux(diffusers.FluxInpaintPipeline, 8),
    "flux-fill": lambda: _flux(diffusers.FluxFillPipeline, 32, 8, guided=True),
    "flux-kontext": lambda: _flux(diffusers.FluxKontextInpaintPipeline, 8, guided=True),
    "qwen-image": _qwen,
    "z-image": _z_image,
}
"""Builders by the name of their family."""


def tiny_pipeline(name: str) -> Built:
    """One of them, with the same random weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        pipeline, prompt = TINY_PIPELINES[name]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, prompt
