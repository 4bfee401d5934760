"""The predicted clean latents (x0) of a running call, for every prediction type and scheduler family.

Only some schedulers return x0. So the private scheduler's `step` is wrapped: what goes in is kept, and x0 follows from
it; it equals the library's own x0 where there is one. Notation: x = signal * x0 + noise * e.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from editcritic.v1.errors import InvalidInput

__all__ = ["StepWatch", "clean_latents", "noise_level"]


def _sigma(scheduler: Any, timestep: Tensor | float) -> Tensor:
    """The noise level of the step about to be made; `step_index` moves during it."""
    index = scheduler.step_index
    if index is None:
        index = (
            scheduler.begin_index
            if scheduler.begin_index is not None
            else scheduler.index_for_timestep(timestep)
        )
    sigma: Tensor = scheduler.sigmas[index]
    return sigma


def _is_flow(scheduler: Any) -> bool:
    config = scheduler.config
    flows = config.get("prediction_type") == "flow_prediction" or config.get("use_flow_sigmas", False)
    return "FlowMatch" in type(scheduler).__name__ or bool(flows)


def noise_level(scheduler: Any, timestep: Tensor | float) -> tuple[Tensor, Tensor]:
    """Signal and noise factors, scalars, of the sample that is about to be stepped at `timestep`.

    Three families: flow matching (1 - sigma, sigma); Euler-like, whose samples are not scaled (1, sigma);
    variance preserving.
    """
    if _is_flow(scheduler):
        sigma = _sigma(scheduler, timestep)
        return 1 - sigma, sigma
    if hasattr(scheduler, "sigmas") and hasattr(scheduler, "step_index"):
        sigma = _sigma(scheduler, timestep)
        if float(scheduler.init_noise_sigma) != 1.0:
            return torch.ones_like(sigma), sigma
        signal = 1 / (1 + sigma**2).sqrt()
        return signal, sigma * signal
    alpha = scheduler.alphas_cumprod[int(timestep)]
    return alpha.sqrt(), (1 - alpha).sqrt()


def clean_latents(output: Tensor, sample: Tensor, level: tuple[Tensor, Tensor], prediction: str) -> Tensor:
    """x0, of the sample's shape, from a (guided) model output.

    level: `noise_level` before the step. prediction: "epsilon", "v_prediction", "sample", "flow" or "flow_prediction".
    Raises: InvalidInput for another prediction type.
    """
    signal, noise = (factor.to(sample.device, torch.float32) for factor in level)
    output, sample = output.float(), sample.float()
    if prediction == "epsilon":
        return (sample - noise * output) / signal.clamp(min=1e-4)
    if prediction == "sample":
        return output
    if prediction in ("flow", "flow_prediction"):
        return sample - noise * output
    if prediction == "v_prediction":
        # For an unscaled sample (signal 1) both are first brought to unit variance.
        size = (signal**2 + noise**2).sqrt()
        return (signal * sample / size - noise * output) / size
    raise InvalidInput(
        f"the scheduler predicts {prediction!r}; previews know epsilon, v_prediction, sample and flow"
    )


class StepWatch:
    """Wraps `scheduler.step` and keeps what x0 needs. The scheduler must be private to one call."""

    def __init__(self, scheduler: Any) -> None:
        self._kept: tuple[Tensor, Tensor, tuple[Tensor, Tensor]] | None = None
        self._prediction = (
            "flow" if _is_flow(scheduler) else scheduler.config.get("prediction_type", "epsilon")
        )
        inner = scheduler.step

        @functools.wraps(inner)
        def step(model_output: Tensor, timestep: Any, sample: Tensor, *rest: Any, **options: Any) -> Any:
            self._kept = (model_output, sample, noise_level(scheduler, timestep))
            return inner(model_output, timestep, sample, *rest, **options)

        scheduler.step = step

    def clean(self) -> Tensor | None:
        """x0 of the last step, of the latents' shape; None before the first."""
        return None if self._kept is None else clean_latents(*self._kept, self._prediction)
