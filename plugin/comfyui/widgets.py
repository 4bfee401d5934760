"""Inputs that several nodes share, with their words."""

from __future__ import annotations

from typing import Any

__all__ = ["HIDDEN", "edited", "judged", "sampler_widgets", "server_inputs", "widget"]

HIDDEN = {"node_id": "UNIQUE_ID", "extra_pnginfo": "EXTRA_PNGINFO"}
"""What ComfyUI fills in by itself."""


def widget(kind: Any, tooltip: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """An input with its tooltip."""
    return kind, {"tooltip": tooltip, **options}


def judged() -> dict[str, Any]:
    """What every judgement needs besides the edited picture."""
    return {
        "source": widget("IMAGE", "The picture before the edit. A batch of 1 holds for all edited pictures."),
        "mask": widget(
            "MASK",
            "Where the picture was inpainted, 1 inside. LoadImage gives zeros without an alpha channel.",
        ),
        "prompt": widget(
            "STRING", "What was asked for, in words. Empty for a removal.", default="", multiline=True
        ),
    }


def edited() -> Any:
    """The picture to be judged."""
    return widget("IMAGE", "The inpainted picture, or a batch of candidates; all are judged in one call.")


def server_inputs() -> dict[str, Any]:
    """Who judges."""
    return {
        "server": widget(
            "EDITCRITIC_SERVER",
            "From a Critic Server node. Without one: EDITCRITIC_SERVER of the environment, else localhost:50551.",
        ),
        "critic": widget("STRING", "Name of a critic of the server; empty for its first.", default=""),
    }


def sampler_widgets(samplers: Any, schedulers: Any) -> dict[str, Any]:
    """The widgets of KSampler, with its ranges."""
    return {
        "seed": widget(
            "INT", "Of the first candidate.", default=0, min=0, max=2**64 - 1, control_after_generate=True
        ),
        "steps": widget("INT", "Denoising steps of one candidate.", default=20, min=1, max=1000),
        "cfg": widget("FLOAT", "Guidance scale.", default=8.0, min=0.0, max=100.0, step=0.1, round=0.01),
        "sampler_name": widget(samplers, "As in KSampler."),
        "scheduler": widget(schedulers, "As in KSampler."),
        "denoise": widget(
            "FLOAT", "1 redraws what is masked in full.", default=1.0, min=0.01, max=1.0, step=0.01
        ),
    }
