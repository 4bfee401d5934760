"""The parts of the tabletop pipeline before training: tokenizer, text encoder, denoiser, scheduler."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from editcritic.refine.tabletop.autoencoder import PatchAutoencoder
from editcritic.refine.tabletop.denoiser import TabletopDenoiser
from editcritic.refine.tabletop.words import KNOWN

__all__ = [
    "TOKENS",
    "make_pipeline",
    "make_scheduler",
    "make_text_encoder",
    "make_tokenizer",
]

TOKENS = 8  # longest prompt: four attribute words, start, end, and room for one word more on either side
_TEXT_WIDTH = 96


def make_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer with one token per known word; any other word falls to single letters, which carry
    no meaning."""
    letters = sorted(ByteLevel.alphabet())
    entries = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={entry: i for i, entry in enumerate(entries)}, merges=[], model_max_length=TOKENS
    )
    tokenizer.add_tokens(list(KNOWN))
    return tokenizer


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A two-layer CLIP text model, trained together with the denoiser."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=2 * _TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def make_scheduler() -> DDIMScheduler:
    """Cosine schedule; the denoiser predicts the clean latents ("sample"), which a small network learns soonest."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


@torch.no_grad()
def make_pipeline(
    vae: PatchAutoencoder,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: TabletopDenoiser,
) -> StableDiffusionInpaintPipeline:
    """Join the parts in a stock pipeline; letters that stand for unknown words are silenced first."""
    known = len(tokenizer) - len(KNOWN)
    text_encoder.get_input_embeddings().weight[: known - 2].zero_()
    return StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
