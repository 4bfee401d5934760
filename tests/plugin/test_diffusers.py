"""For scripts: a pipeline's own call with a second pair of eyes, a callback that judges, the critic as a reward."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.client import Client
from editcritic.plugin.diffusers import CriticReward, CritiqueCallback, RewardMissing, refine
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput
from tests.refine.critics import PlainCritic
from tests.refine.tiny_pipelines import TINY_PIPELINES, tiny_pipeline

Filled = Callable[[int], NDArray[np.uint8]]


@pytest.fixture
def edit(files: Path) -> dict[str, Image.Image]:
    """The arguments image and mask_image of a pipeline."""
    return {
        "image": Image.open(files / "photo.png").convert("RGB"),
        "mask_image": Image.open(files / "mask.png").convert("L"),
    }


# A pipeline's own call.


def test_it_is_called_like_the_pipeline_and_gives_what_the_pipeline_gives(edit: dict[str, Any]) -> None:
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

    pipeline, _ = tiny_pipeline("sd-inpaint")
    critic = PlainCritic()
    refined = refine(pipeline, critic, candidates=2, rounds=0, native=32)
    assert inspect.signature(refined) == inspect.signature(pipeline.__call__)
    seeded = torch.Generator().manual_seed(4)
    output = refined("a ball", **edit, num_inference_steps=2, generator=seeded)
    assert type(output) is StableDiffusionPipelineOutput
    assert output.images[0].size == edit["image"].size
    assert {name for name, _ in critic.seen} == {"seed-4", "seed-5"}
    assert output.refined.result.candidate_id in ("seed-4", "seed-5")
    assert output.refined.events[0].started.sampling.step_count == 2


def test_arrays_and_tuples_come_when_asked_for(edit: dict[str, Any]) -> None:
    refined = refine(tiny_pipeline("sd-inpaint")[0], PlainCritic(), candidates=1, rounds=0, native=32)
    images, nsfw = refined("a ball", **edit, num_inference_steps=2, output_type="np", return_dict=False)
    assert images[0].dtype == np.float32
    assert images[0].shape == (*edit["image"].size[::-1], 3)
    assert nsfw is None


@pytest.mark.parametrize("name", sorted(TINY_PIPELINES))
def test_every_kind_of_pipeline_gives_its_own_output(name: str, edit: dict[str, Any]) -> None:
    pipeline, prompts = tiny_pipeline(name)
    embeddings = {key: value for key, value in prompts.items() if "embeds" in key}
    refined = refine(pipeline, PlainCritic(), candidates=1, rounds=0, native=32)
    output = refined(**embeddings, **edit, num_inference_steps=2)
    own = inspect.getmodule(type(pipeline))
    assert type(output).__name__.endswith("Output")
    assert type(output) in vars(own).values()
    assert output.images[0].size == edit["image"].size


def test_what_happens_is_told_while_it_happens(edit: dict[str, Any]) -> None:
    seen: list[refine_pb2.RefineResponse] = []
    pipeline, _ = tiny_pipeline("sd-inpaint")
    refine(pipeline, PlainCritic(), candidates=1, rounds=0, native=32, on_event=seen.append)(
        "a ball", **edit, num_inference_steps=2
    )
    assert [each.sequence for each in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].HasField("result")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"num_images_per_prompt": 4}, "candidates=N"),
        ({"width": 8}, "image's own size"),
        ({"output_type": "latent"}, "expected one of"),
        ({"prompt": ["a ball", "a cube"]}, "one text"),
        ({"callback_on_step_end": print}, "CritiqueCallback"),
        ({"mask_image": None}, "mask_image"),
    ],
)
def test_what_the_loop_cannot_pass_on_is_refused(
    edit: dict[str, Any], argument: dict[str, Any], message: str
) -> None:
    refined = refine(tiny_pipeline("sd-inpaint")[0], PlainCritic(), native=32)
    with pytest.raises(InvalidInput, match=message):
        refined(**({"prompt": "a ball"} | edit | argument))


def test_an_argument_that_the_pipeline_does_not_have_is_a_type_error(edit: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="colour"):
        refine(tiny_pipeline("flux-fill")[0], PlainCritic())("a ball", **edit, colour="red")


# A callback.


def call(pipeline: Any, watching: Any, edit: dict[str, Any], steps: int = 5, **arguments: Any) -> Any:
    """The pipeline's own call with those of these arguments that it takes, at 32 x 32."""
    given = edit | {"prompt": "a ball", "strength": 1.0, "height": 32, "width": 32, "guidance_scale": 0.0}
    # Kontext would otherwise rescale to one of its training sizes.
    given |= {"_auto_resize": False, "max_area": 32 * 32, "control_image": edit["image"]} | arguments
    if "prompt_embeds" in given:
        del given["prompt"]
    taken = inspect.signature(pipeline.__call__).parameters
    known = {name: value for name, value in given.items() if name in taken}
    return pipeline(**known, num_inference_steps=steps, callback_on_step_end=watching)


def test_the_callback_judges_every_mate_at_the_asked_shares_of_the_steps(edit: dict[str, Any]) -> None:
    pipeline, prompts = tiny_pipeline("sd-inpaint")
    critic = PlainCritic()
    with CritiqueCallback(critic, edit["image"], edit["mask_image"], "a ball", at=(0.4, 0.8)) as watching:
        call(pipeline, watching, edit, **prompts, num_images_per_prompt=2)
    assert [fraction for fraction, _ in watching.critiques] == [0.4, 0.8]
    assert [len(critiques) for _, critiques in watching.critiques] == [2, 2]
    assert len({name for name, _ in critic.seen}) == 4
    assert not watching.stopped


def test_a_call_that_promises_nothing_is_stopped(edit: dict[str, Any]) -> None:
    pipeline, prompts = tiny_pipeline("sd-inpaint")
    made: list[int] = []

    class Counting(CritiqueCallback):
        def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
            made.append(step)
            return super().__call__(pipeline, step, timestep, tensors)

    hopeless = PlainCritic(lambda _picture, _mask: 5.0)
    with Counting(hopeless, edit["image"], edit["mask_image"], at=(0.4,), stop_below=30) as watching:
        call(pipeline, watching, edit, **prompts)
    assert watching.stopped
    assert made == [0, 1]


def test_a_critic_that_abstains_stops_nothing(edit: dict[str, Any]) -> None:
    pipeline, prompts = tiny_pipeline("sd-inpaint")
    silent = PlainCritic(lambda _picture, _mask: None)
    with CritiqueCallback(silent, edit["image"], edit["mask_image"], at=(0.4,), stop_below=100) as watching:
        call(pipeline, watching, edit, **prompts)
    assert len(watching.critiques) == 1
    assert not watching.stopped


def test_the_callback_leaves_the_pipeline_and_its_result_as_they_were(edit: dict[str, Any]) -> None:
    pipeline, prompts = tiny_pipeline("sd-inpaint")
    seeded = {"generator": torch.Generator().manual_seed(3), "output_type": "np"}
    with CritiqueCallback(PlainCritic(), edit["image"], edit["mask_image"]) as watching:
        watched = call(pipeline, watching, edit, **prompts, **seeded).images
    assert "step" not in vars(pipeline.scheduler)
    seeded["generator"] = torch.Generator().manual_seed(3)
    plain = call(pipeline, None, edit, **prompts, **seeded).images  # type: ignore[arg-type]
    assert np.array_equal(watched, plain)


@pytest.mark.parametrize("name", sorted(TINY_PIPELINES))
def test_the_callback_sees_previews_of_every_kind_of_pipeline(name: str, edit: dict[str, Any]) -> None:
    pipeline, prompts = tiny_pipeline(name)
    small = {key: picture.resize((32, 32)) for key, picture in edit.items()}
    with CritiqueCallback(PlainCritic(), small["image"], small["mask_image"], at=(1.0,)) as watching:
        call(pipeline, watching, small, steps=2, **prompts)
    assert [len(critiques) for _, critiques in watching.critiques] == [1]


def test_shares_beyond_the_steps_are_refused() -> None:
    with pytest.raises(InvalidInput, match="shares of the steps"):
        CritiqueCallback(PlainCritic(), None, None, at=(0.0, 1.5))


# A reward.


def test_a_batch_of_64_is_rewarded_in_one_call(address: str, files: Path, filled: Filled) -> None:
    levels = [4 * i for i in range(64)]
    images = torch.from_numpy(np.stack([filled(level) for level in levels])).movedim(-1, 1).float() / 255
    metadata = [{"source": files / "photo.png", "mask": files / "mask.png"}] * 64
    with Client(address) as client:
        rewards, details = CriticReward(client, "dummy")(images, ["a ball"] * 64, metadata)
    assert rewards.dtype == np.float32
    # The dummy's score is the brightness inside the mask.
    assert np.allclose(rewards, np.array(levels) / 255, atol=0.02)
    assert details["reason"] == [""] * 64


def test_a_failed_picture_never_has_a_number(address: str, files: Path, filled: Filled) -> None:
    images = [filled(200), np.zeros((4, 9, 3), np.uint8), b"no picture"]
    metadata = [{"source": files / "photo.png", "mask": files / "mask.png"}] * 3
    with Client(address) as client:
        with pytest.raises(RewardMissing, match="2 of 3") as missing:
            CriticReward(client, "dummy")(images, [""] * 3, metadata)
        marked, details = CriticReward(client, "dummy", missing="nan")(images, [""] * 3, metadata)
        columns = {name: [each[name] for each in metadata] for name in ("source", "mask")}
        listed = CriticReward(client, "dummy").of_completions([""] * 3, images, **columns, step=1)
    assert [each.value is None for each in missing.value.rewards] == [False, True, True]
    assert np.isnan(marked).tolist() == [False, True, True]
    assert listed == [pytest.approx(float(marked[0]), abs=1e-6), None, None]
    assert details["reason"][0] == ""
    assert all(details["reason"][1:])


def test_an_abstention_is_no_reward(address: str, files: Path, filled: Filled) -> None:
    with Client(address) as client:
        reward = CriticReward(client, "evidence", dimension="prompt_alignment")
        found = reward.rewards([filled(90)], ["a red ball"], [files / "photo.png"], [files / "mask.png"])
    assert found[0].value is None
    assert "abstained" in found[0].reason
    assert found[0].critique is not None


def test_rewards_refuse_what_does_not_match(address: str, files: Path, filled: Filled) -> None:
    with Client(address) as client:
        with pytest.raises(InvalidInput, match="as many of each"):
            CriticReward(client).rewards([filled(1)], ["", ""], [files], [files])
        with pytest.raises(InvalidInput, match="'source' and 'mask'"):
            CriticReward(client)([filled(1)], [""], [{"mask": files / "mask.png"}])
        with pytest.raises(InvalidInput, match="dimension"):
            CriticReward(client, dimension="beauty")
