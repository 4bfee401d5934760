"""A pipeline's own call, in which candidates are judged and the best one is mended."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
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

__all__ = ["CriticInpaint", "Refined", "refine"]

Events = Callable[[refine_pb2.RefineResponse], object]

_PICTURES = ("pil", "np")
_SCALES = ("guidance_scale", "true_cfg_scale")
_KNOWN = {
    *("prompt", "image", "mask_image", "strength", "num_inference_steps", "negative_prompt", "generator"),
    *("output_type", "return_dict", "num_images_per_prompt", "height", "width", *_SCALES),
}
# The loop works on a crop about the mask by itself.
_MOOT = {"padding_mask_crop"}


@dataclasses.dataclass
class Refined:
    """What the loop has to say about a picture: the attribute `refined` of a call's output.

    result: with critique, stop reason and denoising steps. events: everything that happened, in order.
    """

    result: refine_pb2.RefineResult
    events: list[refine_pb2.RefineResponse] = dataclasses.field(repr=False)


def refine(pipeline: Any, critic: Critic | None = None, **options: Any) -> CriticInpaint:
    """`pipeline` with a second pair of eyes: same call, same output class; options as of `CriticInpaint`."""
    return CriticInpaint(pipeline, critic, **options)


class CriticInpaint:
    """Wraps an inpainting pipeline; it is not changed and its modules are shared.

    A call takes what the pipeline's own call takes and gives an instance of the pipeline's own output class with one
    picture, and the attribute `refined` (`Refined`). The seed of `generator` names the first candidate; the others
    count on from it. Embeddings in place of the prompt are passed through.

    Args:
        pipeline: any diffusers inpainting pipeline.
        critic: who judges; by default a server of one's own with the default critic.
        candidates: first answers to choose from. rounds: repairs. journal: where runs are kept.
        on_event: told of every event as it happens.
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
        on_event: Events = lambda _event: None,
        **known: Any,
    ) -> None:
        self._pipeline, self._known = pipeline, known
        self._critic: Critic = critic or EmbeddedCritic(DEFAULT_CRITIC)
        self._candidates, self._rounds, self._journal = candidates, rounds, journal
        self._on_event = on_event
        self.__signature__ = inspect.signature(pipeline.__call__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Carry out one edit.

        Raises:
            InvalidInput: what cannot be carried out, and what was expected. TypeError: the pipeline's call has no such
                argument. EditCriticError: every candidate failed.
        """
        given = self.__signature__.bind(*args, **kwargs).arguments
        given = {name: value for name, value in given.items() if value is not None}
        output_type = _checked(given)
        request = make_refine_request(
            given["image"],
            given["mask_image"],
            given.get("prompt", ""),
            candidates=self._candidates,
            rounds=self._rounds,
            **_sampling(given),
        )
        refined = self._run(request, self._conditioning(given))
        pixels = decode_image(refined.result.image)
        picture = Image.fromarray(pixels) if output_type == "pil" else np.float32(pixels) / np.float32(255)
        return _output(self._pipeline, picture, refined, given.get("return_dict", True))

    def _conditioning(self, given: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in given.items() if name not in _KNOWN | _MOOT}
        parameters = self.__signature__.parameters
        odd = [name for name, value in rest.items() if not _is_conditioning(name, value, parameters)]
        if odd:
            raise InvalidInput(
                f"{', '.join(sorted(odd))}: the loop makes many calls of this pipeline and cannot pass this on. Leave "
                "it out; for a script that makes the calls itself there is CritiqueCallback"
            )
        return {name: value for name, value in rest.items() if "embeds" in name}

    def _run(self, request: refine_pb2.RefineRequest, conditioning: dict[str, Any]) -> Refined:
        engine = DiffusersEngine(
            self._pipeline, type(self._pipeline).__name__, conditioning=conditioning, **self._known
        )
        events = []
        run = Refinement(engine, self._critic, completed_request(request), self._journal)
        for event in traced_steps(run.run()):
            events.append(event)
            self._on_event(event)
        result = events[-1].result
        if result.stop_reason == refine_pb2.STOP_REASON_FAILED:
            raise error_from_status(result.error)
        return Refined(result, events)


def _checked(given: dict[str, Any]) -> str:
    """The wanted kind of picture, of a call that can be carried out. Raises: InvalidInput."""
    if "image" not in given or "mask_image" not in given:
        raise InvalidInput("an edit needs image and mask_image")
    output_type: str = given.get("output_type", "pil")
    if output_type not in _PICTURES:
        raise InvalidInput(f"output_type {output_type!r}: expected one of {', '.join(_PICTURES)}")
    if not isinstance(given.get("prompt", ""), str):
        raise InvalidInput("prompt: expected one text; make a call for each edit")
    if given.get("num_images_per_prompt", 1) != 1:
        raise InvalidInput(
            "num_images_per_prompt: a call gives its best picture; ask for more to choose from with candidates=N"
        )
    _check_size(given)
    return output_type


def _check_size(given: dict[str, Any]) -> None:
    image = given["image"]
    width, height = image.size if isinstance(image, Image.Image) else np.shape(image)[1::-1]
    if (given.get("width", width), given.get("height", height)) != (width, height):
        raise InvalidInput(
            f"width and height: the result has the image's own size, {width} x {height}; leave them out or resize the "
            "image"
        )


def _sampling(given: dict[str, Any]) -> dict[str, Any]:
    generator = given.get("generator")
    scales = [given[name] for name in reversed(_SCALES) if name in given]
    return {
        "negative_prompt": given.get("negative_prompt", ""),
        "seed": None if generator is None else int(generator.initial_seed()) % 2**62,
        "steps": given.get("num_inference_steps", 0),
        "strength": given.get("strength"),
        "guidance": scales[0] if scales else None,
    }


def _is_conditioning(name: str, value: Any, parameters: Any) -> bool:
    """Embeddings, or what the pipeline would have taken anyway."""
    if "embeds" in name:
        return True
    default = parameters[name].default if name in parameters else inspect.Parameter.empty
    return isinstance(value, type(default)) and bool(value == default)


def _output(pipeline: Any, picture: Any, refined: Refined, as_object: bool) -> Any:
    """The pipeline's own output with one picture; a tuple of its fields when no object is wanted."""
    kind = _output_class(pipeline)
    fields = {field.name: None for field in dataclasses.fields(kind)} | {"images": [picture]}
    if not as_object:
        return tuple(fields.values())
    output = kind(**fields)
    output.refined = refined
    return output


def _output_class(pipeline: Any) -> Any:
    """What the pipeline's call gives. Pipelines do not declare it, but every module of one imports it."""
    from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
    from diffusers.utils import BaseOutput

    for base in type(pipeline).__mro__:
        for value in vars(sys.modules[base.__module__]).values():
            if not (isinstance(value, type) and issubclass(value, BaseOutput)):
                continue
            if dataclasses.is_dataclass(value) and any(f.name == "images" for f in dataclasses.fields(value)):
                return value
    return ImagePipelineOutput
