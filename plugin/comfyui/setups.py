"""What a candidate starts from: a crop round the mask, or the latents of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.geometry import Frame, plan_frame

from . import host
from .sampling import Job, Knobs

if TYPE_CHECKING:
    from .engine import ComfyEngine

__all__ = ["CropSetup", "LatentSetup", "Prepared"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_SMALL_SIDE, _LARGE_SIDE = 512, 1024
_CELL = 8


class Prepared:
    """One candidate before it is sampled. frame: which part of the source the latent shows."""

    def __init__(self, job: Job, frame: Frame) -> None:
        self.job, self.frame = job, frame


class CropSetup:
    """Works on a context crop round the mask at the model's own size, as `refine.pipelines` does.

    Args:
        working_side: in pixels; 0 lets the model's kind decide. context: side of the crop over the mask's.
    """

    def __init__(self, working_side: int, context: float) -> None:
        self._side, self._context = working_side, context

    def side(self, model: Any) -> int:
        """The side of a working crop in pixels."""
        if self._side:
            return self._side
        return _SMALL_SIDE if type(model.model.latent_format).__name__ == "SD15" else _LARGE_SIDE

    def prepare(
        self,
        engine: ComfyEngine,
        source: Pixels,
        masks: tuple[Array, Array],
        seed: int,
        knobs: Knobs,
        conditioning: tuple[Any, Any],
    ) -> Prepared:
        """Encode the crop; models that were trained with the mask beside the latent get it there."""
        marked, blend = masks
        reach = np.maximum(marked, blend)
        frame = plan_frame(reach, engine.capabilities.native, 2 * engine.cell, self._context)
        crop, hole = frame.cut(source, reach), frame.cut_mask(reach, engine.cell)
        torch, helpers = host.module("torch"), host.module("node_helpers")
        latent, mask = engine.encoded(crop), torch.from_numpy(hole)[None]
        levels = np.asarray(crop, np.float32) / 255
        grey = levels * (1 - hole[..., None]) + 0.5 * hole[..., None]
        beside = {
            "concat_latent_image": engine.encoded(Image.fromarray(np.rint(grey * 255).astype(np.uint8))),
            "concat_mask": mask[:, None],
        }
        positive, negative = (helpers.conditioning_set_values(each, beside) for each in conditioning)
        noise = host.module("comfy.sample").prepare_noise(latent, seed)
        job = Job(engine.model, positive, negative, latent, noise, mask, seed, knobs)
        return Prepared(job, frame)


class LatentSetup:
    """Samples the latents of a graph, as KSampler would.

    Args:
        latent: a LATENT; its noise mask is kept. noise_seed: of the noise of all. first: seed by which the loop
        calls the first candidate. The i-th candidate gets the noise that KSampler gives the i-th latent of a batch.
    """

    def __init__(self, latent: dict[str, Any], noise_seed: int, first: int) -> None:
        self._latent, self._noise_seed, self._first = latent, noise_seed, first

    def side(self, model: Any) -> int:
        """The longer side of the latents in pixels."""
        del model
        return int(max(self._latent["samples"].shape[-2:])) * _CELL

    def prepare(
        self,
        engine: ComfyEngine,
        source: Pixels,
        masks: tuple[Array, Array],
        seed: int,
        knobs: Knobs,
        conditioning: tuple[Any, Any],
    ) -> Prepared:
        """Take the candidate's own latent and noise."""
        del masks
        index, sample = seed - self._first, host.module("comfy.sample")
        samples = sample.fix_empty_latent_channels(engine.model, self._latent["samples"])
        mine = samples[index % len(samples)][None]
        places = self._latent.get("batch_index") or range(index + 1)
        noise = sample.prepare_noise(mine, self._noise_seed, [places[index % len(places)]])
        hole = self._latent.get("noise_mask")
        if hole is not None:
            hole = hole.reshape(-1, *hole.shape[-2:])
            hole = hole[index % len(hole)][None]
        height, width = source.shape[:2]
        frame = Frame(
            0, 0, width, height, mine.shape[-1] * engine.cell, mine.shape[-2] * engine.cell, (height, width)
        )
        drawn = (self._noise_seed + index) % 2**64
        return Prepared(Job(engine.model, *conditioning, mine, noise, hole, drawn, knobs), frame)
