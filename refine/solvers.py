"""Which solver denoises: the pipeline's own, or for a draft one that needs fewer steps to get to the same picture."""

from __future__ import annotations

from typing import Any

__all__ = ["draft_scheduler", "own_scheduler"]


def own_scheduler(scheduler: Any) -> Any:
    """Another one of the same settings: schedulers keep state between steps."""
    return type(scheduler).from_config(scheduler.config)


def draft_scheduler(scheduler: Any) -> Any:
    """UniPC (Zhao et al. 2023) with the same noise schedule, where it can stand in; else as `own_scheduler`.

    Both follow one differential equation from the noise of a seed to its picture. UniPC's steps are of second order, so
    that three of them come about as near as five of DDIM's. Flow matching and distilled models keep their scheduler.
    """
    from diffusers import UniPCMultistepScheduler

    if UniPCMultistepScheduler in getattr(scheduler, "compatibles", ()):
        return UniPCMultistepScheduler.from_config(scheduler.config)
    return own_scheduler(scheduler)
