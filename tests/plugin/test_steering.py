"""The network critic as what steers: its climbable score is the critic's own, and an engine does climb it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from editcritic.plugin.oracle.cases import Case, asked_edits
from editcritic.plugin.steering import NetworkSteering, steerable
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.engine import load_engine
from editcritic.refine.masks import edit_masks
from editcritic.refine.quality_options import QualityOptions
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.critic import NetworkCritic
from editcritic.server.critics.network.model import SCORES
from editcritic.server.critics.network.runner import Look
from editcritic.server.critics.network.view import look_at, view_edit

WHOLE = (slice(0, 128), slice(0, 128))


@pytest.fixture(scope="module")
def case() -> Case:
    return asked_edits([Image.fromarray(data.coffee())], 1, 7)[0]


def as_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)


@pytest.mark.parametrize("size", [(128, 128), (300, 420), (700, 500)])
def test_the_climbable_score_is_what_the_critic_says_but_for_its_rounding_to_bytes(
    size: tuple[int, int],
) -> None:
    rng = np.random.default_rng(8)
    source = np.asarray(Image.fromarray(data.astronaut()).resize((size[1], size[0])), np.uint8)
    mask = np.zeros(size, bool)
    mask[10 : size[0] // 2, 20 : size[1] // 2] = True  # large ones are shrunk, small photographs are mirrored
    masks = edit_masks(source, mask, None)
    picture = np.where(mask[..., None], rng.integers(0, 255, source.shape, dtype=np.uint8), source)
    steering, place = NetworkSteering(), (slice(0, size[0] // 2 + 20), slice(0, size[1] // 2 + 20))
    climbable = steering.open(source, *masks, place)(as_tensor(picture[place])).item()

    view = view_edit(DecodedEdit("", source, *masks))
    window, whole = look_at(view, picture)
    own = steering._network.runner(Look(view, window, whole)).mean[0]
    expected = (own[SCORES.index("naturalness")] + own[SCORES.index("harmony")]).item() / 2
    assert climbable == pytest.approx(expected, abs=5e-3)


def test_the_score_has_a_gradient_inside_the_mask_and_none_is_needed_elsewhere(case: Case) -> None:
    masks = edit_masks(case.source, case.mask, None)
    picture = as_tensor(case.source).requires_grad_(True)
    score = NetworkSteering().open(case.source, *masks, WHOLE)(picture)
    (gradient,) = torch.autograd.grad(score, picture)
    assert torch.isfinite(gradient).all()
    assert gradient[:, torch.from_numpy(case.mask)].abs().mean() > 0


def test_an_engine_that_follows_the_gradient_scores_higher_by_the_critic_that_it_follows(case: Case) -> None:
    engine = steerable(load_engine("tabletop", device="cpu"))
    plain, steered = (
        engine.candidate(case.source, case.mask, case.prompt, seed=1, steps=8, quality=wish)
        for wish in (QualityOptions(), QualityOptions(critic_guidance=1.0))
    )
    score = NetworkSteering().open(case.source, plain.denoise_mask, plain.blend_mask, WHOLE)
    with torch.no_grad():
        before, after = (score(as_tensor(each.result())).item() for each in (plain, steered))
    assert after > before + 0.1


def test_an_engine_that_cannot_be_steered_is_left_as_it_is() -> None:
    assert not hasattr(steerable(DummyEngine()), "steering")


def test_the_critic_judges_as_before(case: Case) -> None:
    """The network that is climbed is a copy: opening it changes nothing about the one that judges."""
    from editcritic.plugin.local_scores import local_scores

    critic, masks = NetworkCritic(), edit_masks(case.source, case.mask, None)
    before = local_scores(critic, case.source, masks, case.source)
    NetworkSteering().open(case.source, *masks, WHOLE)
    assert local_scores(critic, case.source, masks, case.source) == before
