"""One call of ComfyUI's sampler as something that `refine.suspended.SuspendedCall` can hold, resume and abandon.

The call runs in a thread of its own, in the context of the node, so that progress and interrupts are the node's. While
it waits, others use model and memory; so before its next step it takes the model back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from . import host

__all__ = ["Job", "Knobs", "SamplerCall", "own_conditioning"]


@dataclass(frozen=True)
class Knobs:
    """KSampler's widgets. denoise: in (0, 1]."""

    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float


@dataclass(frozen=True)
class Job:
    """What is sampled.

    latent: (1, C, h, w), as LATENT has it. noise: of the same shape. noise_mask: 1 where it may change, or None.
    seed: of samplers that draw noise between steps.
    """

    model: Any
    positive: Any
    negative: Any
    latent: Any
    noise: Any
    noise_mask: Any
    seed: int
    knobs: Knobs


class SamplerCall:
    """Stands where a `SuspendedCall` expects a pipeline.

    Args:
        job: what to sample. on_step: told of each step's predicted clean latent, in the model's own scale. turn: a
            number that changes whenever somebody else has used the model.

    Attributes:
        num_timesteps: steps in all, once the first is done. x0: the newest predicted clean latent.
    """

    def __init__(self, job: Job, on_step: Callable[[Any], object], turn: Callable[[], int]) -> None:
        self._job, self._on_step, self._turn = job, on_step, turn
        self._context = copy_context()
        self.num_timesteps = job.knobs.steps
        self.x0: Any = None

    def __call__(self, *, callback_on_step_end: Callable[..., Any]) -> Any:
        """Sample to the end; returns the latent (1, C, h, w)."""
        return self._context.run(self._sample, callback_on_step_end)

    def maybe_free_model_hooks(self) -> None:
        """Nothing is left on a device: ComfyUI keeps its models itself."""

    def _sample(self, after_step: Callable[..., Any]) -> Any:
        torch, sample = host.module("torch"), host.module("comfy.sample").sample
        job, knobs = self._job, self._job.knobs

        def stepped(step: int, x0: Any, _x: Any, total: int) -> None:
            self.x0, self.num_timesteps = x0, total
            self._on_step(x0)
            turn = self._turn()
            after_step(self, step, None, {})
            if self._turn() != turn:
                self._take_back()

        with torch.inference_mode():
            return sample(
                job.model,
                job.noise,
                knobs.steps,
                knobs.cfg,
                knobs.sampler_name,
                knobs.scheduler,
                job.positive,
                job.negative,
                job.latent,
                denoise=knobs.denoise,
                noise_mask=job.noise_mask,
                callback=stepped,
                disable_pbar=True,
                seed=job.seed,
            )

    def _take_back(self) -> None:
        """What was sampled or decoded meanwhile may have moved the weights, and has signed the model off."""
        model = self._job.model
        helpers = host.module("comfy.sampler_helpers")
        conds = {name: helpers.convert_cond(getattr(self._job, name)) for name in ("positive", "negative")}
        more, _ = helpers.get_additional_models(conds, model.model_dtype())
        host.module("comfy.model_management").load_models_gpu([model, *more])
        if hasattr(model.model, "current_patcher"):
            model.model.current_patcher = model


def own_conditioning(conditioning: Any) -> Any:
    """The same with its own ControlNets: those keep state for one sampling at a time."""
    return [
        [tensor, {**extra, "control": _own_control(extra["control"])} if "control" in extra else dict(extra)]
        for tensor, extra in conditioning
    ]


def _own_control(control: Any) -> Any:
    if control is None:
        return None
    own = control.copy()
    own.set_previous_controlnet(_own_control(control.previous_controlnet))
    return own
