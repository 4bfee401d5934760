"""The predicted clean picture, from every scheduler family and prediction type, against a known answer.

A sample is made by the library's own noising from known latents and noise; what a perfect network would
predict follows from both. Whatever the family, x0 must come out as those latents.
"""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from editcritic.refine.clean import StepWatch, clean_latents
from editcritic.v1.errors import InvalidInput

VARIANCE_PRESERVING = ["DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler", "PNDMScheduler"]
WITH_SIGMAS = [
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]
X0 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def perfect_output(scheduler: Any, timestep: Tensor, prediction: str) -> Tensor:
    """What a perfect network predicts for X0 and NOISE at a timestep of the training schedule."""
    alpha = scheduler.alphas_cumprod[int(timestep)]
    return {
        "epsilon": NOISE,
        "sample": X0,
        "v_prediction": alpha.sqrt() * NOISE - (1 - alpha).sqrt() * X0,
    }[prediction]


def takes(name: str, prediction: str) -> bool:
    """Whether the library knows that pair."""
    return not (prediction == "sample" and name in ("PNDMScheduler", "EulerAncestralDiscreteScheduler"))


@pytest.mark.parametrize(
    ("name", "prediction"),
    [(n, p) for n in VARIANCE_PRESERVING + WITH_SIGMAS for p in PREDICTIONS if takes(n, p)],
)
def test_a_perfect_network_is_seen_through_at_every_step(name: str, prediction: str) -> None:
    scheduler = getattr(diffusers, name)(prediction_type=prediction)
    scheduler.set_timesteps(10)
    watch = StepWatch(scheduler)
    assert watch.clean() is None
    # Single-step solvers have no state for a step in the middle before the first one was made.
    for timestep in scheduler.timesteps[:1] if "Singlestep" in name else scheduler.timesteps[:-1:3]:
        if hasattr(scheduler, "_step_index"):
            scheduler._step_index = None
        sample = scheduler.add_noise(X0, NOISE, timestep[None])
        scheduler.scale_model_input(sample, timestep)
        scheduler.step(perfect_output(scheduler, timestep, prediction), timestep, sample)
        clean = watch.clean()
        assert clean is not None
        # Sigmas are interpolated between training steps, outputs above belong to whole ones.
        torch.testing.assert_close(clean, X0, atol=0.02, rtol=0.02)


FLOWS: dict[str, Any] = {
    "FlowMatchEulerDiscreteScheduler": {},
    "FlowMatchHeunDiscreteScheduler": {},
    "UniPCMultistepScheduler": {
        "use_flow_sigmas": True,
        "prediction_type": "flow_prediction",
        "flow_shift": 3.0,
    },
    "DPMSolverMultistepScheduler": {
        "use_flow_sigmas": True,
        "prediction_type": "flow_prediction",
        "flow_shift": 3.0,
    },
}


@pytest.mark.parametrize("name", FLOWS)
def test_flows_are_seen_through(name: str) -> None:
    scheduler = getattr(diffusers, name)(**FLOWS[name])
    scheduler.set_timesteps(10)
    watch = StepWatch(scheduler)
    sigma, timestep = scheduler.sigmas[0], scheduler.timesteps[0]
    scheduler.step(NOISE - X0, timestep, (1 - sigma) * X0 + sigma * NOISE)
    clean = watch.clean()
    assert clean is not None
    torch.testing.assert_close(clean, X0, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_it_is_what_the_library_itself_calls_x0(name: str, prediction: str) -> None:
    options = {} if "Euler" in name else {"clip_sample": False}
    scheduler = getattr(diffusers, name)(prediction_type=prediction, **options)
    scheduler.set_timesteps(10)
    watch = StepWatch(scheduler)
    sample = NOISE * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps[:9]:
        answer = scheduler.step(0.3 * sample / sample.std() + 0.1 * X0, timestep, sample)
        clean = watch.clean()
        assert clean is not None
        torch.testing.assert_close(clean, answer.pred_original_sample, atol=1e-4, rtol=1e-4)
        sample = answer.prev_sample


def test_watching_changes_no_step() -> None:
    def run(watched: bool) -> Tensor:
        scheduler = diffusers.DPMSolverMultistepScheduler()
        scheduler.set_timesteps(6)
        if watched:
            StepWatch(scheduler)
        sample = NOISE
        for timestep in scheduler.timesteps:
            sample = scheduler.step(0.5 * sample, timestep, sample).prev_sample
        return sample

    assert torch.equal(run(True), run(False))


def test_an_unknown_prediction_type_is_told() -> None:
    one = torch.ones(())
    with pytest.raises(InvalidInput, match="'magic'"):
        clean_latents(NOISE, NOISE, (one, one), "magic")
