"""Any diffusers inpainting pipeline as an engine, through its public interface only."""

from __future__ import annotations

import copy
import inspect
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.alignment import aligned
from editcritic.refine.capabilities import Capabilities, capabilities_of
from editcritic.refine.clean import StepWatch
from editcritic.refine.decoding import LatentDecoder, to_vae_space
from editcritic.refine.differential import DifferentialStrength
from editcritic.refine.engine import Candidate, Preview, advance_in_turn
from editcritic.refine.gathering import Gate
from editcritic.refine.geometry import Frame, composite, plan_frame
from editcritic.refine.loading import open_pipeline
from editcritic.refine.masks import edit_masks
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.solvers import drafting_scheduler, own_scheduler, step_places
from editcritic.refine.steering import DifferentiableCritic, Layer, steer
from editcritic.refine.strength_map import check_strength_map, largest_strength
from editcritic.refine.suspended import State, SuspendedCall, advance_together
from editcritic.refine.turns import SharedDevice, Turns
from editcritic.v1.errors import InvalidInput

__all__ = [
    "DiffusersCandidate",
    "DiffusersEngine",
    "deterministic",
    "open_diffusers",
    "scheduled_steps",
    "settle",
]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]


def deterministic(vae: Any) -> Any:
    """A VAE that shares the weights of `vae` and whose encodings are the mode, drawing nothing from any generator.

    Stock pipelines sample the encoding with the first seed's generator, so that a seed gives another
    picture in another batch.
    """
    twin = copy.copy(vae)
    encode = vae.encode

    def by_mode(*args: Any, **kwargs: Any) -> Any:
        answer = encode(*args, **kwargs)
        posterior = getattr(answer, "latent_dist", None) or (answer[0] if isinstance(answer, tuple) else None)
        if posterior is not None and hasattr(posterior, "mode"):
            posterior.sample = lambda *_args, **_kwargs: posterior.mode()
        return answer

    # An instance attribute of a module; the class's method stays as it is.
    object.__setattr__(twin, "encode", by_mode)
    return twin


def scheduled_steps(steps: int, strength: float, least: int) -> int:
    """Length of the schedule so that `steps * strength` of it are executed, but never fewer than `least` (or `steps`).

    Pipelines execute int(schedule * strength): three steps at strength .2 would be none at all.
    """
    executed = max(min(least, steps), round(steps * strength))
    return math.ceil(executed / strength - 1e-9)


def _gated(pipeline: Any, places: int) -> Gate:
    """A gate in the place of the pipeline's denoiser. The pipeline must be the engine's own copy."""
    name = "transformer" if getattr(pipeline, "transformer", None) is not None else "unet"
    gate = Gate(getattr(pipeline, name), places)
    # Past the pipeline's own setter, which would write the gate's class into its configuration.
    object.__setattr__(pipeline, name, gate)
    return gate


def _private(pipeline: Any, steps: int, large_steps: int) -> Any:
    """A copy that shares all modules but has a scheduler of its own."""
    twin = copy.copy(pipeline)
    twin.scheduler = (
        drafting_scheduler(pipeline.scheduler, steps, large_steps)
        if large_steps
        else own_scheduler(pipeline.scheduler)
    )
    twin.set_progress_bar_config(disable=True)
    return twin


class DiffusersCandidate:
    """One suspended pipeline call with its edit. See `engine.Candidate` for what it does."""

    def __init__(
        self,
        call: SuspendedCall,
        watch: StepWatch,
        decoder: LatentDecoder,
        source: Pixels,
        masks: tuple[Array, Array],
        frame: Frame,
        work_mask: Array,
        seed: int,
        notes: tuple[str, ...],
    ) -> None:
        self.seed, self.notes, self.frame = seed, notes, frame
        self.denoise_mask, self.blend_mask = masks
        self.shift = (0.0, 0.0)
        self.call, self._watch, self._decoder = call, watch, decoder
        self._source, self._work_mask = source, work_mask
        self._result: Pixels | None = None
        # A waiting thread would outlive a candidate that nobody holds any more.
        weakref.finalize(self, call.let_go).atexit = False

    @property
    def state(self) -> State:
        """What it is doing: new, running, waiting, done, dropped or failed."""
        return self.call.state

    @property
    def fraction(self) -> float:
        """Share of the executed steps that are done."""
        return self.call.fraction

    @property
    def evaluations(self) -> int:
        """Denoising steps so far; with guidance each is one pass of a doubled batch."""
        return self.call.steps_done

    def advance(self, to_fraction: float) -> None:
        """Run until that share of the steps is done, then wait; at 1.0 it waits before the decode."""
        self.call.advance(to_fraction)

    def preview(self, in_full: bool = False) -> Preview:
        """What it will look like; in_full: by the decoder that results have. Raises: InvalidInput before the first
        step, or after it was dropped."""
        latents = self._watch.clean()
        if latents is None or self.state == "dropped":
            raise InvalidInput(f"a candidate that is {self.state} has no preview: advance it first")
        picture = self._decoder(latents, self.frame.height, self.frame.width, in_full).numpy()
        whole = composite(self._source, picture, self.blend_mask, self.frame)
        return Preview(whole[self.frame.place].copy(), self.frame.region, self.fraction)

    def result(self) -> Pixels:
        """The finished edit, (H, W, 3) uint8: bit for bit the source beyond the blend mask.

        `shift` tells by how many working pixels (rows, columns) the engine had moved the picture; up to 8 are undone.
        """
        if self._result is None:
            picture = np.asarray(self.call.finish().images[0], np.float32)
            before = np.asarray(self.frame.cut(self._source, self.blend_mask), np.float32) / np.float32(255)
            settled, self.shift = aligned(before, picture, self._work_mask)
            self._result = composite(self._source, settled, self.blend_mask, self.frame)
        return self._result

    def drop(self) -> None:
        """Give up: no further step, no decode."""
        self.call.drop()


class DiffusersEngine:
    """A loaded inpainting pipeline that produces candidates.

    Args:
        pipeline: any diffusers inpainting pipeline. It is not changed; modules are shared.
        name: what messages and journals call it.
        preview, tiny: how previews are decoded, as in `LatentDecoder`.
        gather: candidates that are denoised in one pass when they advance together; 1 for one after the other, which
            is as fast wherever a single one keeps the device busy.
        conditioning: arguments of every call that take the place of the prompt (embeddings, say).
        shared: the device, when others use it too.
        known: overrides for `capabilities_of`.
    """

    def __init__(
        self,
        pipeline: Any,
        name: str,
        *,
        preview: Any = "auto",
        tiny: Any = None,
        gather: int = 1,
        conditioning: Mapping[str, Any] | None = None,
        shared: SharedDevice | None = None,
        **known: Any,
    ) -> None:
        self.pipeline = copy.copy(pipeline)
        self.pipeline.vae = deterministic(pipeline.vae)
        self.capabilities: Capabilities = capabilities_of(pipeline, name, **known)
        self._conditioning = dict(conditioning or {})
        self._decoder = LatentDecoder(self.pipeline, tiny, preview)
        self._lock = Turns(shared)
        self._gate = _gated(self.pipeline, gather) if gather > 1 else None
        self.steering: DifferentiableCritic | None = None
        """Whose gradient is followed where a candidate asks for it."""

    def advance(self, candidates: Sequence[Candidate], to_fraction: float) -> None:
        """Advance several of its candidates; see `engine.Engine.advance`."""
        own = [each for each in candidates if isinstance(each, DiffusersCandidate)]
        if self._gate is None:
            advance_in_turn(own, to_fraction)
        else:
            advance_together([each.call for each in own], to_fraction)

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
        strength_map: NDArray[np.floating[Any]] | None = None,
    ) -> DiffusersCandidate:
        """Prepare one answer to an edit; see `engine.Engine.candidate`."""
        marked, blend = edit_masks(source, mask, blend_mask)
        known, notes = self.read_prompt(prompt)
        able = self.capabilities
        able.check_large_steps(large_steps, steps, strength, strength_map is not None)
        strengths = None
        if strength_map is not None:
            strengths = check_strength_map(strength_map, marked.shape, able, strength)
            strength = largest_strength(strengths, steps or able.default_steps)
        wish = (quality or QualityOptions()).checked(able)
        reach = np.maximum(marked, blend)
        frame = plan_frame(reach, able.native, able.multiple, able.context, able.centred)
        work_mask = frame.cut_mask(reach, able.multiple)
        arguments = self._prompts(known, negative_prompt) | self._numbers(
            steps, strength, guidance, large_steps
        )
        arguments |= self._pictures(frame, frame.cut(source, reach), work_mask, seed) | self.asked_quality(
            wish
        )
        private = _private(self.pipeline, steps or able.default_steps, large_steps)
        watch = StepWatch(private.scheduler)
        if wish.critic_guidance > 0:
            score = self._climbable(source, (marked, blend), frame)
            steer(private.scheduler, score, wish.critic_guidance)
        change = None
        if strengths is not None and strength is not None:
            cells = frame.cut_strengths(strengths, able.multiple)
            change = DifferentialStrength(private, arguments["image"], cells, strength, seed)
        call = SuspendedCall(private, self._taken(arguments), self._lock, self._gate, change)
        denoise = _back_to_source(work_mask, frame, marked.shape)
        return DiffusersCandidate(
            call, watch, self._decoder, source, (denoise, blend), frame, work_mask, seed, notes
        )

    def read_prompt(self, prompt: str) -> tuple[str, tuple[str, ...]]:
        """The prompt as the pipeline should read it, and notes for the user. Engines with a closed
        vocabulary override this."""
        return prompt, ()

    def asked_quality(self, wish: QualityOptions) -> dict[str, Any]:
        """Arguments of a call for a wanted quality. Engines that can be told one override this."""
        del wish
        return {}

    def _climbable(self, source: Pixels, masks: tuple[Array, Array], frame: Frame) -> Callable[[Any], Any]:
        """The steering critic's score of predicted clean latents."""
        if self.steering is None:
            raise InvalidInput(
                "critic guidance needs a critic whose gradient can be followed, and this engine was given none; set "
                "engine.steering, as the command line does, or leave critic_guidance out"
            )
        score = self.steering.open(source, *masks, frame.place)
        layer, vae = Layer(source, masks[1], frame), self.pipeline.vae

        def climbable(latents: Any) -> Any:
            picture = vae.decode(to_vae_space(vae, latents).to(vae.dtype), return_dict=False)[0]
            return score(layer(picture[0].float().cpu() / 2 + 0.5))

        return climbable

    def _prompts(self, prompt: str, negative: str) -> dict[str, Any]:
        if self._conditioning:
            return dict(self._conditioning)
        return {"prompt": prompt, "negative_prompt": negative if self.capabilities.negative_prompt else None}

    def _numbers(
        self, steps: int | None, strength: float | None, guidance: float | None, large_steps: int
    ) -> dict[str, Any]:
        able = self.capabilities
        steps, strength = steps or able.default_steps, 1.0 if strength is None else strength
        guidance = able.default_guidance if guidance is None else guidance
        if steps < 1 or not 0 < strength <= 1 or not 0 <= guidance < 1000:
            raise InvalidInput(
                f"steps {steps}, strength {strength}, guidance {guidance}: expected steps of at least 1, a strength "
                "above 0 and at most 1, and a guidance of 0 or more"
            )
        if not able.strength:
            strength = 1.0
        scale = "true_cfg_scale" if able.guidance == "true_cfg" else "guidance_scale"
        scheduled = scheduled_steps(steps, strength, able.least_steps)
        return {
            "num_inference_steps": len(step_places(steps, large_steps)) if large_steps else scheduled,
            "strength": strength,
            scale: guidance,
        }

    def _pictures(self, frame: Frame, picture: Image.Image, work_mask: Array, seed: int) -> dict[str, Any]:
        import torch

        return {
            "image": picture,
            "mask_image": Image.fromarray((work_mask * 255).astype(np.uint8)),
            "height": frame.height,
            "width": frame.width,
            "generator": torch.Generator("cpu").manual_seed(seed),
            "output_type": "np",
            # Kontext would otherwise rescale to one of its training sizes.
            "_auto_resize": False,
            "max_area": frame.height * frame.width,
        }

    def _taken(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Only what this pipeline's call knows."""
        names = inspect.signature(self.pipeline.__call__).parameters
        return {name: value for name, value in arguments.items() if name in names}


def _back_to_source(work_mask: Array, frame: Frame, shape: tuple[int, ...]) -> Array:
    """The denoise mask as it was used, in source pixels: (H, W) float32 in [0, 1]."""
    whole = np.zeros(shape, np.float32)
    whole[frame.place] = frame.back(work_mask[..., None])[..., 0]
    return whole


def _placed(pipeline: Any, device: str, offload: str) -> Any:
    """The pipeline on its device, whole or with offloading. Raises: InvalidInput."""
    if offload not in ("none", "model", "sequential"):
        raise InvalidInput(f"offload {offload!r}: expected none, model or sequential")
    if offload != "none" and device == "cpu":
        raise InvalidInput(
            f"offload {offload!r} keeps modules off a GPU, and the device is the CPU; leave it out"
        )
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
        return pipeline
    if offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
        return pipeline
    return pipeline.to(device)


def settle(device: str, dtype: str) -> tuple[str, Any]:
    """Device and torch dtype for the words that `load_engine` takes. Raises: InvalidInput."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not (device in ("cpu", "mps") or device.startswith("cuda")):
        raise InvalidInput(f"device {device!r}: expected auto, cpu, cuda, cuda:1 ... or mps")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidInput(
            f"device {device!r} was asked for and there is no CUDA device here; use device='cpu'"
        )
    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    if dtype not in names:
        raise InvalidInput(f"dtype {dtype!r}: expected auto, {', '.join(names)}")
    return device, names[dtype]


def open_diffusers(
    where: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    offload: str = "none",
    preview: Any = "auto",
    tiny: str | Path | None = None,
    offline: bool = False,
    shared: Callable[[str], SharedDevice] | None = None,
) -> DiffusersEngine:
    """Open a pipeline folder or hub id as an engine; arguments as in `engine.load_engine`."""
    device, torch_dtype = settle(device, dtype)
    pipeline = _placed(open_pipeline(where, torch_dtype, offline=offline), device, offload)
    small = None
    if tiny is not None:
        from diffusers import AutoencoderTiny

        small = AutoencoderTiny.from_pretrained(
            tiny, dtype=torch_dtype, local_files_only=offline, use_safetensors=True
        ).to(device)
    return DiffusersEngine(
        pipeline,
        Path(where).name if Path(where).is_dir() else str(where),
        preview=preview,
        tiny=small,
        shared=shared(device) if shared is not None else None,
    )
