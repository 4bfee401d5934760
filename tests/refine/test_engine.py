"""The registry, the dummy, what an engine says it can do, and producing candidates one after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.engine import ENGINES, generate, load_engine
from editcritic.refine.loading import PIPELINES
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import ImageError, InvalidInput, ServerFault
from tests.refine.conftest import engine_of

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

EXPECTED: dict[str, dict[str, Any]] = {
    # From the papers and model cards: what the network sees, how guidance is asked for, how prompts are read.
    "sd": {"mask_use": "blended", "guidance": "cfg", "negative_prompt": True, "strength": True},
    "sd-inpaint": {"mask_use": "concatenated", "guidance": "cfg", "negative_prompt": True},
    "sdxl": {"mask_use": "blended", "guidance": "cfg", "negative_prompt": True},
    "sd3": {"mask_use": "blended", "guidance": "cfg", "strength": True},
    "flux": {"mask_use": "blended", "guidance": "distilled", "negative_prompt": False},
    "flux-fill": {"mask_use": "concatenated", "guidance": "distilled", "negative_prompt": False},
    "flux-kontext": {"mask_use": "context", "instruction": True, "strength": True},
    "qwen-image": {"mask_use": "blended", "guidance": "true_cfg", "negative_prompt": True},
    "z-image": {"mask_use": "blended", "guidance": "none", "negative_prompt": False},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_engine_says_what_it_can_do(name: str) -> None:
    facts = dataclasses.asdict(engine_of(name).capabilities)
    assert {key: facts[key] for key in EXPECTED[name]} == EXPECTED[name]


def test_capabilities_cross_the_wire() -> None:
    able = Capabilities("mine", "FluxKontextInpaintPipeline", native=1024, instruction=True, strength=False)
    message = able.to_info(device="cuda:1")
    assert (message.name, message.native_side_px, message.device) == ("mine", 1024, "cuda:1")
    assert not message.takes_strength
    assert message.prompt_style == refine_pb2.PROMPT_STYLE_COMMAND


def test_the_library_has_the_classes_that_are_run_as_they_are() -> None:
    import diffusers

    assert {name for name in PIPELINES if not hasattr(diffusers, name)} == set()


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "diffusers"])
def test_built_in_engines_open_and_answer(name: str, photo: Pixels, hole: Mask) -> None:
    engine = load_engine(name, device="cpu")
    assert engine.capabilities.name == name
    candidate = engine.candidate(photo, hole, "a red ball", seed=3, steps=2)
    candidate.advance(0.5)
    assert candidate.preview().picture.dtype == np.uint8
    result = candidate.result()
    assert (candidate.state, candidate.fraction) == ("done", 1.0)
    np.testing.assert_array_equal(result[candidate.blend_mask == 0], photo[candidate.blend_mask == 0])
    again = engine.candidate(photo, hole, "a red ball", seed=3, steps=2).result()
    np.testing.assert_array_equal(again, result)
    other = engine.candidate(photo, hole, "a red ball", seed=4, steps=2).result()
    assert not np.array_equal(other, result)


def test_the_dummy_keeps_the_rules_of_candidates(photo: Pixels, hole: Mask) -> None:
    candidate = load_engine("dummy").candidate(photo, hole, "", seed=1)
    with pytest.raises(InvalidInput, match="no preview"):
        candidate.preview()
    candidate.advance(0.3)
    assert candidate.evaluations == 3
    candidate.drop()
    assert candidate.state == "dropped"
    with pytest.raises(InvalidInput, match="dropped"):
        candidate.result()


def test_candidates_are_told_of_as_they_come_along(photo: Pixels, hole: Mask) -> None:
    events = list(generate(load_engine("dummy"), photo, hole, "", [7, 8], previews=(0.5,)))
    assert [(e.kind, e.index, e.seed) for e in events] == [
        ("started", 0, 7),
        ("preview", 0, 7),
        ("finished", 0, 7),
        ("started", 1, 8),
        ("preview", 1, 8),
        ("finished", 1, 8),
    ]
    assert events[1].fraction == 0.5
    assert events[2].picture is not None
    assert events[2].picture.shape == photo.shape


def test_a_candidate_that_fails_does_not_stop_the_others(
    photo: Pixels, hole: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from editcritic.refine.dummy import DummyCandidate

    result = DummyCandidate.result

    def failing(self: DummyCandidate) -> Pixels:
        if self.seed == 7:
            raise ServerFault("broken")
        return result(self)

    monkeypatch.setattr(DummyCandidate, "result", failing)
    events = list(generate(load_engine("dummy"), photo, hole, "", [7, 8], previews=()))
    assert [e.kind for e in events] == ["started", "failed", "started", "finished"]
    assert str(events[1].error) == "broken"


def test_a_listener_who_leaves_drops_the_candidate(photo: Pixels, hole: Mask) -> None:
    events = generate(engine_of("sd-inpaint"), photo, hole, "a ball", [7])
    next(events)
    candidate = next(events).candidate
    events.close()  # type: ignore[attr-defined]
    assert candidate is not None
    assert candidate.state == "dropped"


def test_bad_input_stops_before_anything_runs(photo: Pixels, hole: Mask) -> None:
    with pytest.raises(ImageError, match="empty"):
        next(generate(load_engine("dummy"), photo, np.zeros_like(hole), "", [7]))
