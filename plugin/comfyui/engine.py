"""ComfyUI's own model, conditioning and VAE as an engine of the loop. See `editcritic.refine.engine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.engine import Preview, advance_in_turn
from editcritic.refine.geometry import composite
from editcritic.refine.masks import edit_masks
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.strength_map import check_strength_map
from editcritic.refine.suspended import State, SuspendedCall
from editcritic.refine.turns import Turns
from editcritic.v1.errors import EditCriticError, InvalidInput

from . import host
from .sampling import Knobs, SamplerCall, own_conditioning
from .setups import Prepared
from .wording import Wording

__all__ = ["ComfyCandidate", "ComfyEngine"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_CELL = 8


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

    def preview(self, in_full: bool = False) -> Preview:
        """What it will look like. Raises: InvalidInput before the first step."""
        del in_full
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
        large_steps: int = 0,
        strength_map: NDArray[Any] | None = None,
    ) -> ComfyCandidate:
        """Prepare one answer; see `editcritic.refine.engine.Engine.candidate`. Another prompt needs a CLIP."""
        self.capabilities.check_large_steps(large_steps, steps, strength)
        marked, blend = edit_masks(source, mask, blend_mask)
        if strength_map is not None:
            check_strength_map(strength_map, marked.shape, self.capabilities, strength)
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
