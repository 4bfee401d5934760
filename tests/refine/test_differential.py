"""Every pixel has a strength of its own in one call; all families of pipelines behave the same."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from editcritic.refine.capabilities import Capabilities, capabilities_of
from editcritic.refine.decoding import source_latents, to_vae_space, unpacked
from editcritic.refine.differential import DifferentialStrength
from editcritic.refine.geometry import Frame, composite
from editcritic.refine.pipelines import DiffusersCandidate, DiffusersEngine
from editcritic.refine.strength_map import check_strength_map
from editcritic.v1.errors import InvalidInput
from tests.refine.conftest import engine_of
from tests.refine.tiny_pipelines import tiny_pipeline

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Array = NDArray[np.float32]

STEPS = 4
SIZE = (64, 80)


def flat(strength: float) -> Array:
    return np.full(SIZE, strength, np.float32)


def halves(left: float, right: float) -> Array:
    """Two strengths that meet in the middle of the hole."""
    strengths = flat(right)
    strengths[:, :40] = left
    return strengths


def made(engine: DiffusersEngine, photo: Pixels, hole: Mask, **options: Any) -> DiffusersCandidate:
    return engine.candidate(photo, hole, "a ball", seed=3, steps=STEPS, **options)


def distance(first: Pixels, second: Pixels, where: Mask) -> float:
    return float(np.abs(first.astype(int) - second)[where].mean())


def as_latents(engine: DiffusersEngine, candidate: DiffusersCandidate, photo: Pixels, hole: Mask) -> Tensor:
    """What the engine sees of the photograph: (1, C, h, w) or (1, C, 1, h, w)."""
    picture = candidate.frame.cut(photo, np.maximum(candidate.blend_mask, hole))
    return source_latents(engine.pipeline.vae, picture, torch.device("cpu"))


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Grows with the latents of every step that a map had a say in."""
    seen: list[Tensor] = []
    change = DifferentialStrength.__call__

    def spied(self: DifferentialStrength, done: int, steps: int, latents: Tensor) -> Tensor:
        seen.append(change(self, done, steps, latents))
        return seen[-1]

    monkeypatch.setattr(DifferentialStrength, "__call__", spied)
    return seen


def test_strength_zero_everywhere_keeps_the_source_as_the_engine_sees_it(
    engine: DiffusersEngine, photo: Pixels, hole: Mask, last: list[Tensor]
) -> None:
    candidate = made(engine, photo, hole, strength_map=flat(0))
    candidate.result()
    frame = candidate.frame
    final = unpacked(engine.pipeline, last[-1], frame.height, frame.width)
    expected = as_latents(engine, candidate, photo, hole)
    torch.testing.assert_close(final.reshape(expected.shape), expected, rtol=0, atol=1e-6)


def test_strength_zero_everywhere_is_a_round_trip_through_the_autoencoder(photo: Pixels, hole: Mask) -> None:
    engine = engine_of("sd-inpaint")
    candidate = made(engine, photo, hole, strength_map=flat(0))
    vae = engine.pipeline.vae
    with torch.no_grad():
        picture = vae.decode(to_vae_space(vae, as_latents(engine, candidate, photo, hole))).sample
    shown = np.clip(picture[0].movedim(0, -1).numpy() / 2 + 0.5, 0, 1)
    expected = composite(photo, shown, candidate.blend_mask, candidate.frame)
    np.testing.assert_array_equal(candidate.result(), expected)
    painted = made(engine, photo, hole).result()
    assert distance(painted, expected, hole) > 5, "it paints a round trip anyway, so this test could not fail"


def test_one_strength_everywhere_is_the_plain_call_bit_for_bit(
    engine: DiffusersEngine, photo: Pixels, hole: Mask
) -> None:
    plain = made(engine, photo, hole)
    mapped = made(engine, photo, hole, strength_map=flat(1))
    np.testing.assert_array_equal(mapped.result(), plain.result())
    assert mapped.evaluations == plain.evaluations


def test_the_strength_of_the_call_is_the_largest_of_the_map(photo: Pixels, hole: Mask) -> None:
    plain = made(engine_of("sd-inpaint"), photo, hole, strength=0.5)
    mapped = made(engine_of("sd-inpaint"), photo, hole, strength_map=flat(0.5))
    np.testing.assert_array_equal(mapped.result(), plain.result())
    assert mapped.evaluations == plain.evaluations


@pytest.fixture
def controlled(photo: Pixels) -> DiffusersEngine:
    """A tiny Stable Diffusion with a ControlNet."""
    plain, _ = tiny_pipeline("sd")
    network = diffusers.ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(8, 16))
    kind = diffusers.StableDiffusionControlNetInpaintPipeline
    pipeline = kind(**plain.components, controlnet=network, requires_safety_checker=False)
    conditioning = {"prompt": "a ball", "control_image": Image.fromarray(photo[:32, :32])}
    return DiffusersEngine(pipeline, "controlnet", native=32, default_steps=4, conditioning=conditioning)


def test_the_half_of_less_strength_stays_nearer_to_the_source(
    engine: DiffusersEngine, photo: Pixels, hole: Mask, last: list[Tensor]
) -> None:
    check_halves(engine, photo, hole, last)


def test_so_it_does_under_a_controlnet(
    controlled: DiffusersEngine, photo: Pixels, hole: Mask, last: list[Tensor]
) -> None:
    check_halves(controlled, photo, hole, last)


def check_halves(engine: DiffusersEngine, photo: Pixels, hole: Mask, last: list[Tensor]) -> None:
    """Where the strength is 0 the source's latents stay, where it is 1 they go."""
    candidate = made(engine, photo, hole, strength_map=halves(0, 1))
    candidate.result()
    source = as_latents(engine, candidate, photo, hole)
    final = unpacked(engine.pipeline, last[-1], candidate.frame.height, candidate.frame.width)
    moved = (final.reshape(source.shape) - source).abs().flatten(0, -3).mean(0)
    width = moved.shape[-1]
    assert moved[:, : width // 2].max() < 1e-5
    assert moved[:, width // 2 :].mean() > 1e-3


def test_a_pause_changes_no_bit(engine: DiffusersEngine, photo: Pixels, hole: Mask) -> None:
    strengths = halves(0.3, 0.9)
    straight = made(engine, photo, hole, strength_map=strengths).result()
    paused = made(engine, photo, hole, strength_map=strengths)
    for share in (0.25, 0.5, 0.75):
        paused.advance(share)
        paused.preview()
    np.testing.assert_array_equal(paused.result(), straight)
    assert not np.array_equal(straight, made(engine, photo, hole, strength=0.9).result())


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "qwen-image", "z-image"])
def test_what_is_put_back_is_what_the_pipeline_itself_puts_back_outside_its_mask(
    name: str, photo: Pixels, hole: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(name)
    noised = everything_noised(type(engine.pipeline.scheduler), monkeypatch)
    candidate = made(engine, photo, hole, strength_map=flat(0))
    candidate.result()
    # After each step but the last one, first the pipeline and then the map.
    count = 2 * (candidate.evaluations - 1)
    theirs, ours = noised[-count::2], noised[1 - count :: 2]
    assert theirs
    for first, second in zip(theirs, ours, strict=True):
        torch.testing.assert_close(second, first, rtol=0, atol=1e-5)


def everything_noised(scheduler: type[Any], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Grows with all that schedulers of a class add noise to."""
    name = "scale_noise" if hasattr(scheduler, "scale_noise") else "add_noise"
    inner, seen = getattr(scheduler, name), []

    def keeping(*arguments: Any, **options: Any) -> Any:
        seen.append(inner(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(scheduler, name, keeping)
    return seen


def test_a_cell_has_the_mean_strength_of_its_pixels() -> None:
    strengths = flat(0)
    strengths[:8, :16], strengths[16:32, 32:48] = 0.4, 0.9
    cells = Frame(0, 0, 80, 64, 80, 64, SIZE).cut_strengths(strengths, 16)
    assert cells.shape == (4, 5)
    assert (cells[0, 0], cells[1, 2]) == pytest.approx((0.2, 0.9))
    assert np.count_nonzero(cells) == 2


def test_beyond_the_picture_strengths_go_on_as_they_are_at_its_rim() -> None:
    frame = Frame(-16, -16, 64, 48, 80, 64, SIZE)
    np.testing.assert_array_equal(frame.cut_strengths(flat(0.5), 16), np.full((4, 5), np.float32(0.5)))


ABLE = Capabilities("able", "none", strength_map=True)


@pytest.mark.parametrize(
    ("strengths", "told"),
    [
        (np.zeros((4, 4), np.float32), "as high and wide as the source"),
        (np.zeros(SIZE, np.uint8), "expected float"),
        (flat(1.5), "expected 0 to 1"),
        (flat(float("nan")), "expected 0 to 1"),
        (None, "expected float"),
    ],
)
def test_what_is_no_map_is_refused(strengths: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        check_strength_map(strengths, SIZE, ABLE)
    assert caught.value.field == "strength_map"


def test_a_strength_and_a_map_of_them_are_too_many() -> None:
    with pytest.raises(InvalidInput, match="both given"):
        check_strength_map(flat(1), SIZE, ABLE, strength=0.5)


def test_an_engine_without_it_refuses_and_says_what_it_takes(photo: Pixels, hole: Mask) -> None:
    engine = engine_of("sd", strength_map=False)
    with pytest.raises(InvalidInput, match="'sd' takes one strength for all pixels"):
        made(engine, photo, hole, strength_map=flat(0.5))


def test_a_pipeline_that_is_not_known_to_carry_it_does_not_claim_to() -> None:
    pipeline, _ = tiny_pipeline("flux")

    class OwnInpaintPipeline(diffusers.FluxInpaintPipeline):
        """Of somebody who may pack latents differently."""

    pipeline.__class__ = OwnInpaintPipeline
    assert not capabilities_of(pipeline, "own").strength_map


def test_a_scheduler_of_second_order_cannot_carry_it() -> None:
    pipeline, _ = tiny_pipeline("sd")
    pipeline.scheduler = diffusers.HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    assert not capabilities_of(pipeline, "mine").strength_map
