"""Which solver denoises: the pipeline's own, or for a candidate with a draft one whose first steps are large.

All follow one differential equation from the noise of a seed to its picture. How it is gone along decides little but
detail, and detail is decided at the end. So the first steps may be large where their errors are of a higher order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["drafting_scheduler", "goes_in_large_steps", "own_scheduler", "step_places"]


def own_scheduler(scheduler: Any) -> Any:
    """Another one of the same settings: schedulers keep state between steps."""
    return type(scheduler).from_config(scheduler.config)


def step_places(steps: int, large: int) -> list[int]:
    """Which of `steps` are gone, from 0: `large` that lie evenly, and all that are left after the last of them."""
    evenly = [place * steps // large for place in range(large)]
    return evenly + list(range(evenly[-1] + 1, steps))


def goes_in_large_steps(scheduler: Any) -> bool:
    """Whether `drafting_scheduler` can stand in; not for flow matching, nor for distilled models."""
    return "UniPCMultistepScheduler" in {each.__name__ for each in getattr(scheduler, "compatibles", ())}


def drafting_scheduler(scheduler: Any, steps: int, large: int) -> Any:
    """UniPC (Zhao et al. 2023) with the same noise schedule, going the `step_places` of `steps` only.

    After the large steps the predicted clean picture is what UniPC makes of the seed in so many steps altogether: its
    last step is of first order, which is to take that prediction.
    """
    private = _front_loaded().from_config(scheduler.config)
    private.whole, private.places = steps, step_places(steps, large)
    return private


@cache
def _front_loaded() -> Any:
    from diffusers import UniPCMultistepScheduler

    class FrontLoadedUniPC(UniPCMultistepScheduler):  # type: ignore[misc]
        """whole: steps of the schedule. places: those that are gone."""

        whole: int
        places: list[int]

        def set_timesteps(
            self, num_inference_steps: int | None = None, device: Any = None, **options: Any
        ) -> None:
            import torch

            del num_inference_steps  # the pipeline's count is that of the places
            super().set_timesteps(self.whole, device=device, **options)
            times, sigmas = vars(self)["timesteps"], vars(self)["sigmas"]
            self.timesteps = times[self.places]
            self.sigmas = torch.cat([sigmas[:-1][self.places], sigmas[-1:]])
            self.num_inference_steps = len(self.places)

    return FrontLoadedUniPC
