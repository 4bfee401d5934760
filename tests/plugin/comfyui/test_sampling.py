"""Sampler with Race and Refine Inpaint over a double of ComfyUI's sampler: steps, cancel, ControlNets, words."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from editcritic.plugin.comfyui.addresses import CriticAddress
from editcritic.plugin.comfyui.race import RaceSampler
from editcritic.plugin.comfyui.refine import RefineInpaint
from editcritic.plugin.comfyui.sampling import own_conditioning
from editcritic.plugin.comfyui.wording import Wording
from editcritic.v1.errors import InvalidInput
from tests.plugin.comfyui.conftest import Comfy, Interrupted, PlainVAE, ProgressBar

WIDGETS = {"steps": 10, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
CONDITIONING = [[torch.zeros(1, 4, 8), {}]]


def race(model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress, **more: Any) -> Any:
    latent = {"samples": vae.encode(image), "noise_mask": hole}
    asked = {"candidates": 4, "seed": 3, "critic": "dummy", **WIDGETS, **more}
    return RaceSampler().run(
        model, CONDITIONING, CONDITIONING, vae, latent, image, hole, "", server=server, **asked
    )


def test_a_race_counts_what_it_saves(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    answer = race(model, vae, image, hole, server, method="halving")
    best, picture, finished, score, steps, saved, report, provenance = answer["result"]
    assert steps == comfy.steps
    assert steps + saved == 4 * 10
    assert saved > 0
    assert len(finished["samples"]) < 4
    assert any(torch.equal(best["samples"][0], each) for each in finished["samples"])
    assert picture.shape == image.shape
    assert torch.equal(picture[:, :12], image[:, :12]), "outside the mask nothing changes"
    assert 0 <= score <= 100
    drops = [each for each in json.loads(provenance)["decisions"] if each["what"] == "drop"]
    assert len(drops) == 4 - len(finished["samples"])
    assert report.count("drop seed-") == len(drops)
    assert ProgressBar.newest.total == 40
    assert max(ProgressBar.newest.values) == steps


def test_nobody_is_dropped_without_a_race_and_the_best_wins(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    best, _, finished, score, steps, saved, *_ = race(model, vae, image, hole, server, method="plain")[
        "result"
    ]
    assert (steps, saved, len(finished["samples"])) == (40, 0, 4)
    brightest = max(finished["samples"], key=lambda each: float(each.mean()))
    assert torch.equal(best["samples"][0], brightest), "the dummy likes it bright"
    assert score == pytest.approx(100 * float(brightest.mean()), abs=1.5)


def test_a_batch_of_latents_is_raced_as_it_is(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    latent = {"samples": vae.encode(image).repeat(2, 1, 1, 1)}
    asked = {"candidates": 7, "seed": 2**64 - 1, "critic": "dummy", "method": "plain", **WIDGETS}
    answer = RaceSampler().run(
        model, CONDITIONING, CONDITIONING, vae, latent, image, hole, "", server=server, **asked
    )
    assert len(answer["result"][2]["samples"]) == 2, "the batch counts, not the widget"


def test_a_waiting_candidate_takes_the_model_back(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    race(model, vae, image, hole, server, method="plain")
    assert comfy.loads > 0
    assert model.model.current_patcher is None


@pytest.mark.parametrize("step", [1, 7, 23])
def test_cancel_takes_effect_within_one_step(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress, step: int
) -> None:
    comfy.cancel_at = step
    with pytest.raises(Interrupted):
        race(model, vae, image, hole, server)
    assert comfy.steps == step


def refine(model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress, **more: Any) -> Any:
    asked = {
        "candidates": 2,
        "max_tries": 1,
        "max_seconds": 0.0,
        "target": 99.0,
        "seed": 3,
        "critic": "dummy",
    }
    options = {**asked, **WIDGETS, "working_size": 64, "acceptance": "none", **more}
    return RefineInpaint().run(
        model, CONDITIONING, CONDITIONING, vae, image, hole, "", server=server, **options
    )


def test_refine_never_hands_back_less_than_the_first_seed(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    picture, score, _, is_new, report, provenance = refine(model, vae, image, hole, server)["result"]
    told = json.loads(provenance)
    assert is_new is True
    assert score >= told["plain_score"]
    assert torch.equal(picture[:, :12], image[:, :12])
    assert report.startswith("seed-3")


def test_refine_keeps_the_edit_that_came_when_nothing_beats_it(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    white = image * (1 - hole[..., None]) + hole[..., None]
    picture, score, _, is_new, report, _ = refine(model, vae, image, hole, server, edited=white)["result"]
    assert is_new is False
    assert torch.equal(picture, white)
    assert score == pytest.approx(100, abs=0.5)
    assert "kept the edit that came" in report
    black = image * (1 - hole[..., None])
    picture, _, _, is_new, *_ = refine(model, vae, image, hole, server, edited=black)["result"]
    assert is_new is True
    assert not torch.equal(picture, black)


def test_refine_is_cancelled_within_one_step(
    comfy: Comfy, model: Any, vae: PlainVAE, image: Any, hole: Any, server: CriticAddress
) -> None:
    comfy.cancel_at = 14
    with pytest.raises(Interrupted):
        refine(model, vae, image, hole, server)
    assert comfy.steps == 14


class Control:
    """A ControlNet that keeps state for one sampling at a time."""

    def __init__(self, previous: Control | None = None) -> None:
        self.previous_controlnet = previous

    def copy(self) -> Control:
        return Control()

    def set_previous_controlnet(self, previous: Control | None) -> None:
        self.previous_controlnet = previous


def test_every_candidate_has_its_own_controlnets() -> None:
    control = Control(Control())
    ((tensor, extra),) = own_conditioning([["words", {"control": control, "area": 1}]])
    assert tensor == "words"
    assert extra["area"] == 1
    assert extra["control"] is not control
    assert extra["control"].previous_controlnet not in (None, control.previous_controlnet)


class Clip:
    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> Any:
        return [[tokens, {"pooled_output": None}]]


def test_other_words_need_a_clip_and_keep_what_hangs_on_the_conditioning() -> None:
    positive, negative = [["own", {"control": "kept"}]], [["none", {}]]
    assert Wording(positive, negative, "a ball").conditioning("a ball", "") == (positive, negative)
    with pytest.raises(InvalidInput, match="connect the one that encoded the first"):
        Wording(positive, negative, "a ball").conditioning("a red ball", "")
    wording = Wording(positive, negative, "a ball", clip=Clip())
    encoded, _ = wording.conditioning("a red ball", "")
    assert encoded == [["a red ball", {"control": "kept", "pooled_output": None}]]
