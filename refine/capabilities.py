"""What each kind of engine can do, as data: a planner reads it instead of knowing pipelines by name.

Source: signatures and masks of diffusers 0.42 pipelines; native sides from the models' cards.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from editcritic.refine.solvers import goes_in_large_steps
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput

__all__ = ["Capabilities", "capabilities_of"]

MaskUse = Literal["blended", "concatenated", "context"]
GuidanceKind = Literal["cfg", "true_cfg", "distilled", "none"]


@dataclass(frozen=True)
class Capabilities:
    """One engine, as a planner sees it.

    Attributes:
        name: name in the registry, hub id, or the last part of a folder's name.
        pipeline_class: class of the pipeline behind it; "none" for an engine without one.
        native: side in pixels that it was made for. multiple: working sizes are multiples of this many pixels.
        strength: whether it takes a denoising strength; without it every call redraws in full.
        negative_prompt: whether a negative prompt has an effect.
        guidance: "cfg" two passes per step; "true_cfg" an extra argument asks for them; "distilled" one pass, the
            scale is an input; "none".
        mask_use: "concatenated" the network sees the mask; "blended" the known part is put back each step; "context"
            the source is a reference that the network may shift.
        instruction: whether prompts command ("make it red") instead of describing the fill.
        few_step: made for eight steps or fewer. default_steps, default_guidance: what holds without a request.
        least_steps: executed steps under which results fall apart; strength raises the schedule so that as many run.
        context: side of the crop over the mask's longer side.
        centred: whether it was only taught masks in the middle of a square; crops then reach beyond the picture.
        words: the closed vocabulary, empty when any text goes.
        scheduler: class of the scheduler; empty for an engine without one.
        prompt_tokens: tokens of a prompt that are read, marks of begin and end included; the rest is cut off unread.
        emphasis: whether "(words:1.2)" weighs words; stock pipelines of diffusers read it as text.
        quality_target: whether it can be told which quality to paint, and led away from a low one.
        critic_guidance: whether the gradient of a critic's score can move its last steps.
        strength_map: whether every pixel can have a strength of its own.
        drafts: whether a candidate can go its first steps large, and be a draft after them.
    """

    name: str
    pipeline_class: str
    native: int = 512
    multiple: int = 8
    strength: bool = True
    negative_prompt: bool = True
    guidance: GuidanceKind = "cfg"
    mask_use: MaskUse = "blended"
    instruction: bool = False
    few_step: bool = False
    default_steps: int = 30
    default_guidance: float = 7.5
    least_steps: int = 8
    context: float = 2.0
    centred: bool = False
    words: tuple[str, ...] = field(default=())
    scheduler: str = ""
    prompt_tokens: int = 77
    emphasis: bool = False
    quality_target: bool = False
    critic_guidance: bool = False
    strength_map: bool = False
    drafts: bool = False

    def reads_negative(self, guidance: float | None) -> bool:
        """Whether a negative prompt has an effect at that guidance (None: the engine's own)."""
        return self.negative_prompt and (self.default_guidance if guidance is None else guidance) > 1

    def check_large_steps(
        self, large_steps: int, steps: int | None, strength: float | None, is_mapped: bool = False
    ) -> None:
        """Whether so many of the steps (None: the engine's own) can be gone large first; 0 always can.

        is_mapped: whether pixels have strengths of their own. Raises: InvalidInput.
        """
        if large_steps and not self.drafts:
            raise InvalidInput(
                f"the engine {self.name!r} has no solver for large steps; leave large_steps out and ask for fewer steps"
            )
        of, is_partial = steps or self.default_steps, is_mapped or (strength is not None and strength < 1)
        if not 0 <= large_steps <= of or (large_steps and is_partial):
            raise InvalidInput(
                f"large_steps {large_steps} of {of} at strength {'by a map' if is_mapped else strength}: expected 0 "
                "to all of the steps, and full strength"
            )

    def to_info(self, device: str = "", revision: str = "") -> refine_pb2.EngineInfo:
        """The same as a message, for `ListEngines`."""
        style = refine_pb2.PROMPT_STYLE_COMMAND if self.instruction else refine_pb2.PROMPT_STYLE_DESCRIPTION
        return refine_pb2.EngineInfo(
            name=self.name,
            pipeline_class=self.pipeline_class,
            revision=revision,
            native_side_px=self.native,
            takes_strength=self.strength,
            takes_negative_prompt=self.negative_prompt,
            prompt_style=style,
            default_step_count=self.default_steps,
            device=device,
            scheduler=self.scheduler,
            takes_quality_target=self.quality_target,
            takes_critic_guidance=self.critic_guidance,
        )


# What differs from the defaults above. A class that is not listed gets what its signature tells.
_KNOWN: dict[str, dict[str, Any]] = {
    "StableDiffusionInpaintPipeline": {},
    "StableDiffusionControlNetInpaintPipeline": {},
    "StableDiffusionXLInpaintPipeline": {"native": 1024},
    "StableDiffusionXLControlNetInpaintPipeline": {"native": 1024},
    "StableDiffusion3InpaintPipeline": {"native": 1024, "multiple": 16, "default_guidance": 7.0},
    "FluxInpaintPipeline": {"native": 1024, "multiple": 16, "guidance": "distilled", "default_steps": 28},
    "FluxFillPipeline": {
        "native": 1024,
        "multiple": 16,
        "guidance": "distilled",
        "default_guidance": 30.0,
        "default_steps": 50,
        "mask_use": "concatenated",
    },
    "FluxKontextInpaintPipeline": {
        "native": 1024,
        "multiple": 16,
        "guidance": "distilled",
        "default_guidance": 3.5,
        "default_steps": 28,
        "mask_use": "context",
        "instruction": True,
    },
    "Flux2KleinInpaintPipeline": {
        "native": 1024,
        "multiple": 16,
        "guidance": "none",
        "default_guidance": 1.0,
        "default_steps": 4,
        "few_step": True,
        "least_steps": 2,
    },
    "ChromaInpaintPipeline": {
        "native": 1024,
        "multiple": 16,
        "guidance": "true_cfg",
        "default_guidance": 4.0,
    },
    "QwenImageInpaintPipeline": {
        "native": 1024,
        "multiple": 32,
        "guidance": "true_cfg",
        "default_guidance": 4.0,
    },
    "QwenImageEditInpaintPipeline": {
        "native": 1024,
        "multiple": 32,
        "guidance": "true_cfg",
        "default_guidance": 4.0,
        "mask_use": "context",
        "instruction": True,
    },
    "ZImageInpaintPipeline": {
        "native": 1024,
        "multiple": 16,
        "guidance": "none",
        "default_guidance": 0.0,
        "default_steps": 9,
        "least_steps": 2,
    },
}


# Those whose latents are known to be put back where they were, between two steps.
_DIFFERENTIAL = frozenset(
    {
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusion3InpaintPipeline",
        "FluxInpaintPipeline",
        "FluxFillPipeline",
        "FluxKontextInpaintPipeline",
        "QwenImageInpaintPipeline",
        "ZImageInpaintPipeline",
    }
)
_MOST_TOKENS = 100_000


def _from_signature(call: Callable[..., Any]) -> dict[str, Any]:
    names = inspect.signature(call).parameters
    facts: dict[str, Any] = {"strength": "strength" in names, "negative_prompt": "negative_prompt" in names}
    if "true_cfg_scale" in names:
        facts["guidance"] = "true_cfg"
    return facts


def _prompt_facts(pipeline: Any) -> dict[str, Any]:
    """The longest prompt that one of the tokenizers takes whole, as far as the call asks for that many tokens."""
    names = ("tokenizer", "tokenizer_2", "tokenizer_3")
    limits = [int(getattr(getattr(pipeline, name, None), "model_max_length", 0) or 0) for name in names]
    asked = inspect.signature(pipeline.__call__).parameters.get("max_sequence_length")
    if asked is not None and isinstance(asked.default, int):
        return {"prompt_tokens": min(max(limits) or asked.default, asked.default)}
    # Tokenizers without a limit of their own say so by an absurd number.
    return {"prompt_tokens": max(limits)} if 0 < max(limits) < _MOST_TOKENS else {}


def _network_facts(pipeline: Any) -> dict[str, Any]:
    """A U-Net that takes more channels than its latents have was trained with the mask beside them."""
    unet = getattr(pipeline, "unet", None)
    if unet is None or unet.config.in_channels == pipeline.vae.config.latent_channels:
        return {}
    return {"mask_use": "concatenated"}


def capabilities_of(pipeline: Any, name: str, **known: Any) -> Capabilities:
    """Capabilities of a loaded pipeline; `known` overrides what is found out (the native side of a fine-
    tuned model, say)."""
    kind = type(pipeline).__name__
    facts = _from_signature(pipeline.__call__) | _KNOWN.get(kind, {}) | _network_facts(pipeline)
    facts |= _prompt_facts(pipeline)
    if facts.get("guidance") in ("distilled", "none"):
        # A negative prompt is accepted by some of these, and read only with a second pass that they are not asked for.
        facts["negative_prompt"] = False
    scheduler = getattr(pipeline, "scheduler", None)
    # A scheduler of second order steps twice between two levels of noise.
    is_simple = getattr(scheduler, "order", 1) == 1
    facts["drafts"] = goes_in_large_steps(scheduler) and not facts.get("few_step", False)
    facts["strength_map"] = kind in _DIFFERENTIAL and facts["strength"] and is_simple
    facts["scheduler"] = type(scheduler).__name__ if scheduler is not None else ""
    return replace(Capabilities(name=name, pipeline_class=kind), **(facts | known))
