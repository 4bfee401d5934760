"""A drop-in for a diffusers inpainting pipeline: the same call, but candidates are judged and the best one is mended.

::

    pipeline = CriticInpaint(StableDiffusionInpaintPipeline.from_pretrained(...), candidates=4)
    picture = pipeline(prompt="a red ball", image=photo, mask_image=mask).images[0]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from editcritic.plugin.editing import make_refine_request
from editcritic.plugin.judging import EmbeddedCritic
from editcritic.plugin.traced import traced_steps
from editcritic.refine.critic import Critic
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.pipelines import DiffusersEngine
from editcritic.refine.request import completed_request
from editcritic.server.critics import DEFAULT_CRITIC
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput, error_from_status
from editcritic.v1.images import decode_image

__all__ = ["CriticInpaint", "CriticInpaintOutput"]

_PICTURES = ("pil", "np")


@dataclass
class CriticInpaintOutput:
    """What a call gives.

    images: one picture, as a pipeline's own output has it. result: the loop's, with critique and stop reason.
    events: everything that happened.
    """

    images: list[Any]
    result: refine_pb2.RefineResult
    events: list[refine_pb2.RefineResponse] = field(repr=False)


class CriticInpaint:
    """Wraps an inpainting pipeline; it is not changed and its modules are shared.

    Args:
        pipeline: any diffusers inpainting pipeline.
        critic: who judges; by default a server of one's own with the default critic.
        candidates: first answers to choose from. rounds: repairs. journal: where runs are kept.
        **known: overrides for the engine's capabilities, native=512 for one.
    """

    def __init__(
        self,
        pipeline: Any,
        critic: Critic | None = None,
        *,
        candidates: int = 4,
        rounds: int = 2,
        journal: Journal | None = None,
        **known: Any,
    ) -> None:
        self._pipeline, self._known = pipeline, known
        self._critic: Critic = critic or EmbeddedCritic(DEFAULT_CRITIC)
        self._candidates, self._rounds, self._journal = candidates, rounds, journal

    def __call__(
        self,
        prompt: str = "",
        image: Any = None,
        mask_image: Any = None,
        *,
        strength: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        on_event: Callable[[refine_pb2.RefineResponse], object] = lambda _event: None,
        **conditioning: Any,
    ) -> CriticInpaintOutput | tuple[list[Any]]:
        """Carry out one edit.

        Args:
            image, mask_image: Pillow images or arrays of one size; the result has the image's size.
            generator: its seed names the first candidate; the others count on from it.
            on_event: told of every event as it happens. **conditioning: embeddings in place of the prompt.

        Raises:
            InvalidInput: what cannot be carried out, and what was expected. EditCriticError: every candidate failed.
        """
        if image is None or mask_image is None:
            raise InvalidInput("an edit needs image and mask_image")
        if output_type not in _PICTURES:
            raise InvalidInput(f"output_type {output_type!r}: expected one of {', '.join(_PICTURES)}")
        request = make_refine_request(
            image,
            mask_image,
            prompt,
            negative_prompt=negative_prompt or "",
            candidates=self._candidates,
            seed=None if generator is None else int(generator.initial_seed()) % 2**62,
            steps=num_inference_steps or 0,
            strength=strength,
            guidance=guidance_scale,
            rounds=self._rounds,
        )
        engine = DiffusersEngine(
            self._pipeline, type(self._pipeline).__name__, conditioning=conditioning, **self._known
        )
        events = []
        run = Refinement(engine, self._critic, completed_request(request), self._journal)
        for event in traced_steps(run.run()):
            events.append(event)
            on_event(event)
        result = events[-1].result
        if result.stop_reason == refine_pb2.STOP_REASON_FAILED:
            raise error_from_status(result.error)
        pixels = decode_image(result.image)
        images = [Image.fromarray(pixels)] if output_type == "pil" else [np.float32(pixels) / np.float32(255)]
        return CriticInpaintOutput(images, result, events) if return_dict else (images,)
