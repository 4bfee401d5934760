"""A critic that looks on while somebody else's script makes the pipeline's call.

::

    with CritiqueCallback(critic, photo, mask, "a red ball", stop_below=30) as watching:
        picture = pipeline(..., callback_on_step_end=watching).images[0]
    for fraction, critiques in watching.critiques:
        print(fraction, critiques[0].scores.overall.value)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from editcritic.plugin.pictures import make_candidate, make_edit
from editcritic.refine.clean import StepWatch
from editcritic.refine.critic import Critic, EditJudge
from editcritic.refine.decoding import LatentDecoder
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["CritiqueCallback"]


class CritiqueCallback(AbstractContextManager["CritiqueCallback"]):
    """For `callback_on_step_end` of one call of a diffusers inpainting pipeline, alone or with a batch of pictures.

    At each of the given shares of the steps the predicted clean picture (x0) of every batch mate is judged, inside the
    mask; outside it the source is shown, as scripts put it back in the end. `critiques` fills up with pairs (share of
    the steps, a critique for each mate). The predicted pictures are blurry means early on: layout, colour and whether
    anything happened can be told then, seams and texture from about 60 %.

    Args:
        critic: who judges.
        image, mask_image, prompt: the edit, as the pipeline was given it.
        at: shares of the steps at which to look, in (0, 1]. Nothing can be seen at the first step.
        stop_below: overall score, 0 to 100, under which the call is stopped when no mate reaches it in the last look;
            `stopped` is then True. A score that was abstained from never stops anything. None: never stop.
    """

    def __init__(
        self,
        critic: Critic,
        image: Any,
        mask_image: Any,
        prompt: str = "",
        *,
        at: Sequence[float] = (0.4, 0.7),
        stop_below: float | None = None,
    ) -> None:
        if not at or not all(0 < share <= 1 for share in at):
            raise InvalidInput(f"at {tuple(at)}: expected shares of the steps above 0 and at most 1")
        self._critic, self._edit = critic, (image, mask_image, prompt)
        self._left, self._stop_below = sorted(at), stop_below
        self._stack = ExitStack()
        self._judge: EditJudge | None = None
        self._scene: tuple[Image.Image, Image.Image] | None = None
        self._watch: StepWatch | None = None
        self._decoder: LatentDecoder | None = None
        self.critiques: list[tuple[float, list[pb.Critique]]] = []
        self.stopped = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the critic, and the scheduler as it was."""
        self._stack.close()
        self._judge = self._watch = None

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """What diffusers calls after every step. Raises: EditCriticError when it cannot be judged."""
        del timestep
        if self._watch is None:
            self._watch = self._watched(pipeline.scheduler)
        fraction = (step + 1) / pipeline.num_timesteps
        latents = self._watch.clean()
        if latents is not None and self._left and fraction >= self._left[0] - 1e-9:
            self._left = [share for share in self._left if share > fraction + 1e-9]
            self._look(pipeline, latents, tensors["latents"], step, fraction)
        return tensors

    def _watched(self, scheduler: Any) -> StepWatch:
        watch = StepWatch(scheduler)
        # The wrapper hides the class's method; without it that one is back.
        self._stack.callback(vars(scheduler).pop, "step", None)
        return watch

    def _look(self, pipeline: Any, latents: Any, shape_of: Any, step: int, fraction: float) -> None:
        source, mask = self._scene = self._scene or self._scaled(
            *_working_size(pipeline, shape_of, self._edit[0])
        )
        if self._judge is None:
            edit = make_edit(source, mask, self._edit[2])
            self._judge = self._stack.enter_context(self._critic.open(edit))
        progress = pb.DenoisingProgress(step=step + 1, step_count=pipeline.num_timesteps, fraction=fraction)
        critiques = []
        for number, latent in enumerate(latents):
            inside = self._picture(pipeline, latent[None], source.height, source.width)
            candidate = make_candidate(
                Image.composite(inside, source, mask), f"mate-{number}-step-{step + 1}"
            )
            critiques.append(self._judge.critique(candidate, progress))
        self.critiques.append((fraction, critiques))
        if self._stop_below is not None and all(_is_below(each, self._stop_below) for each in critiques):
            self.stopped = True
            # The way that diffusers documents for stopping a call from its callback.
            pipeline._interrupt = True

    def _scaled(self, height: int, width: int) -> tuple[Image.Image, Image.Image]:
        """Source and mask at the size that the pipeline works at."""
        image, mask = (_as_picture(each) for each in self._edit[:2])
        size = (width, height)
        return (
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS),
            mask.convert("L").resize(size, Image.Resampling.BILINEAR),
        )

    def _picture(self, pipeline: Any, latent: Any, height: int, width: int) -> Image.Image:
        self._decoder = self._decoder or LatentDecoder(pipeline)
        pixels = np.asarray(self._decoder(latent, height, width))
        return Image.fromarray((pixels * 255).round().astype(np.uint8))


def _is_below(critique: pb.Critique, score: float) -> bool:
    overall = critique.scores.overall
    return overall.status == pb.SCORE_STATUS_SCORED and overall.value < score


def _as_picture(picture: Any) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    array = np.asarray(picture)
    return Image.fromarray(array if array.dtype == np.uint8 else (array * 255).round().astype(np.uint8))


def _working_size(pipeline: Any, latents: Any, image: Any) -> tuple[int, int]:
    """Height and width in pixels of the picture being made."""
    factor = pipeline.vae_scale_factor
    if latents.ndim > 3:
        return latents.shape[-2] * factor, latents.shape[-1] * factor
    # Rows of 2x2 patches do not tell the shape; the picture's own does, up to rounding.
    width, height = _as_picture(image).size
    multiple = 2 * factor
    return height // multiple * multiple, width // multiple * multiple
