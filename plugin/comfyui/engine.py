"""ComfyUI's own model, conditioning and VAE as an engine of the loop. See `editcritic.refine.engine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.engine import Preview, advance_in_turn
from editcritic.refine.geometry import Frame, composite, plan_frame
from editcritic.refine.masks import edit_masks
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.suspended import State, SuspendedCall
from editcritic.refine.turns import Turns
from editcritic.v1.errors import EditCriticError, InvalidInput

from . import host
from .sampling import Job, Knobs, SamplerCall, own_conditioning
from .wording import Wording

__all__ = ["ComfyCandidate", "ComfyEngine", "CropSetup", "LatentSetup", "Prepared"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_SMALL_SIDE, _LARGE_SIDE = 512, 1024
_CELL = 8


class Prepared:
    """One candidate before it is sampled. frame: which part of the source the latent shows."""

    def __init__(self, job: Job, frame: Frame) -> None:
        self.job, self.frame = job, frame


class ComfyCandidate:
    """One sampling that can wait. See `editcritic.refine.engine.Candidate`."""

    notes: tuple[str, ...] = ()

    def __init__(
        self, engine: ComfyEngine, prepared: Prepared, source: Pixels, masks: tuple[Array, Array], seed: int
    ) -> None:
        self.seed = seed
        self.denoise_mask, self.blend_mask = masks
        self._engine, self._source, self._frame = engine, source, prepared.frame
        self._run = SamplerCall(prepared.job, engine.stepped, lambda: engine.turn)
        # It only asks for a call, a number of steps and something to free.
        self._call = SuspendedCall(self._run, {}, engine.lock)

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._call.state

    @property
    def fraction(self) -> float:
        """Share of the steps that are done, in [0, 1]."""
        return min(1.0, self._call.fraction)

    @property
    def evaluations(self) -> int:
        """Steps executed so far."""
        return self._call.steps_done

    def advance(self, to_fraction: float) -> None:
        """Run until that share is done. Raises: EditCriticError; ComfyUI's own when the run is cancelled."""
        self._engine.turn += 1
        _interruptible(lambda: self._call.advance(to_fraction))

    def preview(self) -> Preview:
        """What it will look like. Raises: InvalidInput before the first step."""
        if self._run.x0 is None or self.state == "dropped":
            raise InvalidInput(f"a candidate that is {self.state} has no preview: advance it first")
        latent = self._engine.model.model.process_latent_out(self._run.x0.float())
        whole = self._painted(latent)
        return Preview(whole[self._frame.place].copy(), self._frame.region, self.fraction)

    def result(self) -> Pixels:
        """The finished edit, (H, W, 3) uint8. Raises: as `advance`."""
        self._engine.turn += 1
        latent = _interruptible(self._call.finish)
        self._engine.latents[self.seed] = latent
        return self._painted(latent)

    def drop(self) -> None:
        """Give up: no further step, no decode."""
        self._call.drop()

    def _painted(self, latent: Any) -> Pixels:
        self._engine.turn += 1
        picture = self._engine.decoded(latent)
        working = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
        size = (self._frame.width, self._frame.height)
        if working.size != size:
            picture = np.asarray(working.resize(size, Image.Resampling.BICUBIC), np.float32) / np.float32(255)
        whole = composite(self._source, picture, self.blend_mask, self._frame)
        self._engine.show(whole)
        return whole


def _interruptible(work: Callable[[], Any]) -> Any:
    """What it gives; a cancelled run is raised as ComfyUI's own exception instead of as a failed candidate."""
    try:
        return work()
    except EditCriticError as error:
        if host.is_interruption(error.__cause__):
            raise error.__cause__ from None  # type: ignore[misc]
        raise


class ComfyEngine:
    """Samples by ComfyUI.

    Args:
        model, vae: as ComfyUI has them. knobs: KSampler's widgets. setup: makes a candidate of an edit.
        wording: encodes other prompts. progress: the node's bar.

    Attributes:
        latents: finished ones by seed. cell: side in pixels of what one place of a latent shows. turn: changes
            whenever somebody else uses the model.
    """

    def __init__(
        self, model: Any, vae: Any, knobs: Knobs, setup: Any, wording: Wording, progress: host.Progress
    ) -> None:
        self.model, self._vae, self._knobs = model, vae, knobs
        self._setup, self._wording, self._progress = setup, wording, progress
        self.lock, self.turn = Turns(), 0
        self.latents: dict[int, Any] = {}
        self.cell = _cell(vae)
        self._previewer: Any = None
        self.capabilities = Capabilities(
            "comfyui",
            type(model.model).__name__,
            native=setup.side(model),
            negative_prompt=wording.can_reword,
            guidance="cfg" if knobs.cfg > 1 else "none",
            mask_use="concatenated" if getattr(model.model, "concat_keys", ()) else "blended",
            default_steps=knobs.steps,
            default_guidance=knobs.cfg,
            scheduler=f"{knobs.sampler_name} {knobs.scheduler}",
            emphasis=True,
        )

    def candidate(
        self,
        source: Pixels,
        mask: NDArray[Any],
        prompt: str,
        *,
        seed: int,
        steps: int | None = None,
        strength: float | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        blend_mask: NDArray[Any] | None = None,
        quality: QualityOptions | None = None,
    ) -> ComfyCandidate:
        """Prepare one answer; see `editcritic.refine.engine.Engine.candidate`. Another prompt needs a CLIP."""
        marked, blend = edit_masks(source, mask, blend_mask)
        (quality or QualityOptions()).checked(self.capabilities)
        own = self._knobs
        knobs = Knobs(
            steps or own.steps,
            own.cfg if guidance is None else guidance,
            own.sampler_name,
            own.scheduler,
            own.denoise if strength is None else strength,
        )
        positive, negative = self._wording.conditioning(prompt, negative_prompt)
        conditioning = own_conditioning(positive), own_conditioning(negative)
        prepared = self._setup.prepare(self, source, (marked, blend), seed, knobs, conditioning)
        return ComfyCandidate(self, prepared, source, (marked, blend), seed)

    def advance(self, candidates: Sequence[Any], to_fraction: float) -> None:
        """One after the other; see `editcritic.refine.engine.Engine.advance`."""
        advance_in_turn(candidates, to_fraction)

    def stepped(self, x0: Any) -> None:
        """After each step: the bar moves, with ComfyUI's own preview where that is on. Raises when cancelled."""
        host.check_interrupted()
        preview = host.module("latent_preview")
        if self._previewer is None:
            made = preview.get_previewer(self.model.load_device, self.model.model.latent_format)
            self._previewer = made or False
        shown = self._previewer.decode_latent_to_preview_image("JPEG", x0) if self._previewer else None
        self._progress.step(shown)

    def show(self, picture: Pixels) -> None:
        """Show what the critic is about to see."""
        self._progress.show(Image.fromarray(picture))

    def decoded(self, latent: Any) -> Array:
        """The picture of a latent, (h, w, 3) float32 in [0, 1]."""
        picture = self._vae.decode(latent).float().cpu().numpy()
        first = picture.reshape(-1, *picture.shape[-3:])[0][..., :3]
        return np.asarray(np.clip(first, 0, 1), np.float32)

    def encoded(self, picture: Image.Image) -> Any:
        """The latent of a picture, (1, C, h, w)."""
        torch = host.module("torch")
        pixels = np.asarray(picture.convert("RGB"), np.float32)[None] / 255
        return self._vae.encode(torch.from_numpy(pixels))


def _cell(vae: Any) -> int:
    """Of this VAE; 8 for those that do not say."""
    told = getattr(vae, "spacial_compression_encode", None)
    return int(told()) if told is not None else _CELL


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
