"""A candidate can wait, be looked at, go on, and be given up; nine families of pipelines behave the same."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.pipelines import DiffusersEngine, deterministic, scheduled_steps
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, Overloaded, ServerFault
from tests.refine.conftest import engine_of
from tests.refine.tiny_pipelines import tiny_pipeline

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def count_decodes(engine: DiffusersEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with every decode of the engine's VAE."""
    decoded: list[int] = []
    decode = engine.pipeline.vae.decode

    def counted(*args: Any, **kwargs: Any) -> Any:
        decoded.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(engine.pipeline.vae, "decode", counted)
    return decoded


def test_a_pause_changes_no_bit(engine: DiffusersEngine, photo: Pixels, hole: Mask) -> None:
    straight = engine.candidate(photo, hole, "a ball", seed=3).result()
    paused = engine.candidate(photo, hole, "a ball", seed=3)
    for share in (0.25, 0.5, 0.75):
        paused.advance(share)
        paused.preview()
    np.testing.assert_array_equal(paused.result(), straight)
    assert not np.array_equal(straight, photo), "the engine painted nothing, so this test could not fail"


def test_candidates_that_take_turns_do_not_disturb_each_other(
    engine: DiffusersEngine, photo: Pixels, hole: Mask
) -> None:
    alone = [engine.candidate(photo, hole, "a ball", seed=seed).result() for seed in (3, 4)]
    turns = [engine.candidate(photo, hole, "a ball", seed=seed) for seed in (3, 4)]
    for share in (0.25, 0.75):
        for candidate in turns:
            candidate.advance(share)
    for expected, candidate in zip(alone, turns, strict=True):
        np.testing.assert_array_equal(candidate.result(), expected)
    assert not np.array_equal(*alone)


def test_beyond_the_blend_mask_a_result_is_the_source_bit_for_bit(
    engine: DiffusersEngine, photo: Pixels, hole: Mask
) -> None:
    candidate = engine.candidate(photo, hole, "a ball", seed=3)
    outside = candidate.blend_mask == 0
    np.testing.assert_array_equal(candidate.result()[outside], photo[outside])
    assert outside.mean() > 0.7


def test_a_dropped_candidate_costs_no_further_step_and_no_decode(
    engine: DiffusersEngine, photo: Pixels, hole: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes = count_decodes(engine, monkeypatch)
    candidate = engine.candidate(photo, hole, "a ball", seed=3)
    candidate.advance(0.25)
    steps = candidate.evaluations
    candidate.drop()
    assert (candidate.state, candidate.evaluations, decodes) == ("dropped", steps, [])
    with pytest.raises(InvalidInput, match="dropped"):
        candidate.result()
    with pytest.raises(InvalidInput, match="dropped"):
        candidate.preview()


def test_at_the_last_step_the_preview_is_nearly_the_result(photo: Pixels, hole: Mask) -> None:
    engine = engine_of("sd-inpaint", preview="full")
    candidate = engine.candidate(photo, hole, "a ball", seed=3)
    candidate.advance(1.0)
    preview, result = candidate.preview(), candidate.result()
    left, top, right, bottom = preview.region
    assert preview.fraction == 1.0
    # The library's last step ends on the first timestep, at which a trace of noise is left.
    difference = preview.picture.astype(int) - result[top:bottom, left:right]
    assert np.abs(difference).mean() < 4


def test_a_preview_shows_the_crop_and_its_place(engine: DiffusersEngine, photo: Pixels, hole: Mask) -> None:
    candidate = engine.candidate(photo, hole, "a ball", seed=3)
    candidate.advance(0.5)
    preview = candidate.preview()
    left, top, right, bottom = preview.region
    assert preview.picture.shape == (bottom - top, right - left, 3)
    assert (left, top) <= (30, 20)
    assert (right, bottom) >= (50, 40)
    assert preview.fraction == pytest.approx(candidate.fraction)


def test_a_seed_gives_the_same_picture_alone_and_in_a_batch(photo: Pixels, hole: Mask) -> None:
    pipeline, _ = tiny_pipeline("sd-inpaint")
    pipeline.vae = deterministic(pipeline.vae)

    def run(seeds: list[int]) -> NDArray[np.float32]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        picture, mask = Image.fromarray(photo[:64, :64]), Image.fromarray(hole[:64, :64])
        answer = pipeline(
            prompt=["a ball"] * len(seeds),
            image=picture,
            mask_image=mask,
            height=64,
            width=64,
            generator=generators,
            num_inference_steps=4,
            output_type="np",
        )
        return np.asarray(answer.images)

    np.testing.assert_allclose(run([5, 3])[1], run([3])[0], atol=2e-6)


def test_opening_an_engine_leaves_the_pipeline_as_it_was() -> None:
    pipeline, _ = tiny_pipeline("sd-inpaint")
    vae, scheduler = pipeline.vae, pipeline.scheduler
    DiffusersEngine(pipeline, "mine")
    assert pipeline.vae is vae
    assert pipeline.scheduler is scheduler
    assert "encode" not in vars(vae)


def test_the_thread_of_a_forgotten_candidate_ends(photo: Pixels, hole: Mask) -> None:
    candidate = engine_of("sd-inpaint").candidate(photo, hole, "a ball", seed=3)
    candidate.advance(0.25)
    waiting = [thread for thread in threading.enumerate() if thread.name == "candidate"]
    assert waiting
    del candidate
    gc.collect()
    for thread in waiting:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in waiting)


def fails_at_second_step(network: Any, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the denoiser fail once."""
    forward, calls = network.forward, iter(range(1, 100))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 2:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(network, "forward", failing)


@pytest.mark.parametrize(
    ("error", "expected", "reason", "advice"),
    [
        (ValueError("bad weights"), ServerFault, pb.ERROR_REASON_INTERNAL, "bad weights"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
            Overloaded,
            pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY,
            "offload",
        ),
        (MemoryError(), Overloaded, pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY, "offload"),
    ],
)
def test_a_failure_inside_the_pipeline_is_told_and_the_next_candidate_goes_on(
    photo: Pixels,
    hole: Mask,
    error: Exception,
    expected: Any,
    reason: int,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, _ = tiny_pipeline("sd-inpaint")
    fails_at_second_step(pipeline.unet, error, monkeypatch)
    engine = DiffusersEngine(pipeline, "mine", native=32, default_steps=4)
    candidate = engine.candidate(photo, hole, "a ball", seed=3)
    with pytest.raises(expected, match=advice) as told:
        candidate.result()
    assert told.value.reason == reason
    assert candidate.state == "failed"
    assert engine.candidate(photo, hole, "a ball", seed=4).result().shape == photo.shape


def test_waiting_candidates_do_not_hold_the_device(photo: Pixels, hole: Mask) -> None:
    engine = engine_of("sd-inpaint")
    waiting = engine.candidate(photo, hole, "a ball", seed=3)
    waiting.advance(0.25)
    done: list[bool] = []
    other = threading.Thread(
        target=lambda: done.append(engine.candidate(photo, hole, "a ball", seed=4).result() is not None)
    )
    other.start()
    other.join(timeout=60)
    assert done == [True]
    waiting.drop()


def test_two_threads_may_use_one_engine(photo: Pixels, hole: Mask) -> None:
    engine = engine_of("sd-inpaint")
    expected = {seed: engine.candidate(photo, hole, "a ball", seed=seed).result() for seed in range(4)}
    seen: dict[int, Pixels] = {}

    def work(seed: int) -> None:
        candidate = engine.candidate(photo, hole, "a ball", seed=seed)
        for share in (0.25, 0.5, 0.75):
            candidate.advance(share)
            time.sleep(0.001)
        seen[seed] = candidate.result()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert seen.keys() == expected.keys()
    for seed, picture in seen.items():
        np.testing.assert_array_equal(picture, expected[seed])


def test_low_strength_still_executes_enough_steps() -> None:
    assert [scheduled_steps(20, 1.0, 6), scheduled_steps(20, 0.5, 6)] == [20, 20]
    for steps, strength, least in [(20, 0.2, 6), (3, 0.2, 6), (50, 0.05, 8), (8, 0.9, 2)]:
        executed = int(scheduled_steps(steps, strength, least) * strength + 1e-9)
        assert executed >= min(least, steps)


@pytest.mark.parametrize("options", [{"steps": -1}, {"strength": 0.0}, {"strength": 1.2}, {"guidance": -1.0}])
def test_impossible_numbers_are_refused(photo: Pixels, hole: Mask, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        engine_of("sd").candidate(photo, hole, "a ball", seed=3, **options)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_impossible_shares_are_refused(photo: Pixels, hole: Mask, share: float) -> None:
    candidate = engine_of("sd").candidate(photo, hole, "a ball", seed=3)
    with pytest.raises(InvalidInput, match="expected a share"):
        candidate.advance(share)


def masks() -> dict[str, Mask]:
    """Masks that people and programs make."""
    shapes = {
        name: np.zeros((64, 80), bool) for name in ("corner", "everything", "islands", "thin line", "pixel")
    }
    shapes["corner"][:18, 62:] = True
    shapes["everything"][:] = True
    for row, column in [(3, 3), (50, 70), (30, 40), (60, 2)]:
        shapes["islands"][row : row + 3, column : column + 4] = True
    shapes["thin line"][np.arange(60), np.arange(60) + 10] = True
    shapes["pixel"][63, 79] = True
    return shapes


@pytest.mark.parametrize("name", masks())
def test_any_mask_is_edited_where_it_is_marked(photo: Pixels, name: str) -> None:
    mask = masks()[name]
    candidate = engine_of("sd-inpaint").candidate(photo, mask, "a ball", seed=3)
    result = candidate.result()
    np.testing.assert_array_equal(result[candidate.blend_mask == 0], photo[candidate.blend_mask == 0])
    changed = np.any(result != photo, axis=-1)[mask]
    assert changed.mean() > 0.9
    assert np.all(candidate.denoise_mask[mask] > 0), "a marked pixel that the engine was not allowed to paint"


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (33, 250), (129, 67)])
def test_any_size_is_edited(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[4:12, 4:12] = True
    candidate = engine_of("sd-inpaint").candidate(picture, mask, "a ball", seed=3)
    assert candidate.result().shape == picture.shape
