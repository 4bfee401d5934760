"""Prompt alignment within a closed vocabulary, and silence outside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from editcritic.plugin.tabletop_alignment import draw_example, near_misses, tabletop_vocabulary
from editcritic.server.critics.alignment import (
    NONE,
    AlignmentHead,
    AlignmentNetwork,
    crop_inside,
    load_head,
)
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.server.training.alignment import Example, save_head, train_alignment
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput


@pytest.fixture(scope="module")
def head() -> AlignmentHead:
    return load_head(WEIGHTS / "alignment.safetensors")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [Image.fromarray(np.asarray(getattr(data, name)())) for name in ("coffee", "astronaut", "chelsea")]


@pytest.fixture(scope="module")
def examples(photos: list[Image.Image]) -> list[Example]:
    rng = np.random.default_rng(31)
    drawn = (draw_example(photos, rng) for _ in range(80))
    return [example for example in drawn if example.words["shape"] != NONE][:40]


def read(head: AlignmentHead, example: Example, prompt: str) -> pb.Score:
    edit = DecodedEdit("e", example.image, example.mask, prompt=prompt)
    return head.read(edit, example.image).score


def test_the_right_prompt_scores_above_a_near_miss(head: AlignmentHead, examples: list[Example]) -> None:
    rng = np.random.default_rng(3)
    hits = []
    for example in examples:
        right, wrong = near_misses(example, rng)
        own = read(head, example, right).value
        hits += [own > read(head, example, prompt).value for prompt in wrong]
    assert len(hits) == 3 * len(examples)
    assert np.mean(hits) > 0.85


@pytest.mark.parametrize("prompt", ["a shiny red elephant", "draw Mona Lisa", "ein roter Ball"])
def test_an_unknown_word_makes_it_abstain_and_name_its_vocabulary(
    head: AlignmentHead, examples: list[Example], prompt: str
) -> None:
    score = read(head, examples[0], prompt)
    assert score.status == pb.SCORE_STATUS_ABSTAINED
    assert score.abstention_reason == pb.ABSTENTION_REASON_UNKNOWN_WORDS
    assert "cylinder" in score.abstention_detail
    assert prompt.split()[-1].lower() in score.abstention_detail


def test_without_a_prompt_there_is_nothing_to_compare(head: AlignmentHead, examples: list[Example]) -> None:
    assert read(head, examples[0], " ").abstention_reason == pb.ABSTENTION_REASON_NO_PROMPT
    assert read(head, examples[0], "a the").abstention_reason == pb.ABSTENTION_REASON_UNKNOWN_WORDS


def test_an_early_preview_is_not_read(head: AlignmentHead, examples: list[Example]) -> None:
    example = examples[0]
    edit = DecodedEdit("e", example.image, example.mask, prompt="a red ball")
    assert head.read(edit, example.image, 0.1).score.abstention_reason == pb.ABSTENTION_REASON_TOO_EARLY
    assert head.read(edit, example.image, 0.8).score.status == pb.SCORE_STATUS_SCORED


def test_a_mismatch_says_what_was_asked_and_what_is_seen(
    head: AlignmentHead, examples: list[Example]
) -> None:
    for example in examples:
        other = "red" if example.words["colour"] != "red" else "blue"
        edit = DecodedEdit("e", example.image, example.mask, prompt=f"a {other} {example.words['shape']}")
        finding = head.read(edit, example.image).finding()
        if finding is not None and example.words["colour"] in finding.place:
            assert finding.kind == pb.DEFECT_KIND_PROMPT_MISMATCH
            assert repr(other) in finding.place
            return
    pytest.fail("no wrong colour was noticed")


def test_synonyms_articles_and_removals_are_understood() -> None:
    vocabulary = tabletop_vocabulary()
    assert vocabulary.read("The GLOSSY violet sphere!") == (
        {"finish": "shiny", "colour": "purple", "shape": "ball"},
        [],
    )
    assert vocabulary.read("nothing") == ({"shape": NONE}, [])


def test_a_head_can_be_taught_saved_and_read_again(photos: list[Image.Image], tmp_path: Path) -> None:
    vocabulary = tabletop_vocabulary()
    told: list[int] = []
    network = train_alignment(
        lambda rng: draw_example(photos, rng),
        vocabulary,
        steps=1,
        seed=1,
        told=lambda step, _: told.append(step),
    )
    save_head(network, vocabulary, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors")
    assert again.vocabulary.slots["colour"] == list(vocabulary.slots["colour"])
    likelihoods = again.likelihoods(np.zeros((80, 80, 3), np.uint8), np.ones((80, 80), np.float32))
    for words in likelihoods.values():
        assert sum(words.values()) == pytest.approx(1, abs=1e-4)


def test_a_file_that_is_no_head_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(InvalidInput, match="no alignment head"):
        load_head(tmp_path / "x.safetensors")


def painted_head(finish: float, plainness: dict[str, float]) -> AlignmentHead:
    """Sees a red ball in everything, and a finish with log-odds of `finish` for matte."""
    vocabulary = replace(tabletop_vocabulary(), followed={"finish": 0.8}, plainness={"finish": plainness})
    network = AlignmentNetwork(sum(len(words) for words in vocabulary.slots.values()))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.words.bias[0] = network.words.bias[7] = 30
        network.words.bias[18] = finish
    return AlignmentHead(vocabulary, network)


def score_of(head: AlignmentHead, prompt: str) -> float:
    edit = DecodedEdit("e", np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), np.float32), prompt=prompt)
    return head.read(edit, edit.source).score.value


def test_a_finish_that_cannot_be_read_hardly_lowers_the_score_and_a_plain_one_does() -> None:
    assert score_of(painted_head(0, {}), "a shiny red ball") == pytest.approx(80, abs=0.1)
    assert score_of(painted_head(10, {}), "a shiny red ball") < 1
    assert score_of(painted_head(10, {}), "a matte red ball") > 99


def test_a_finish_counts_by_how_plainly_it_shows_on_the_shape_that_was_asked_for() -> None:
    odds = 0.8 / 0.2 * np.exp(-4 * 0.5)
    assert score_of(painted_head(4, {"ball": 0.5, "cube": 0.0}), "a shiny red ball") == pytest.approx(
        100 * odds / (1 + odds), abs=0.1
    )
    assert score_of(painted_head(60, {"ball": 0.0, "cube": 0.5}), "a shiny red ball") == pytest.approx(
        80, abs=0.1
    )
    assert score_of(painted_head(4, {"cube": 0.0}), "a shiny red ball") == score_of(
        painted_head(4, {"ball": 1.0}), "a shiny red ball"
    )
    without = score_of(painted_head(4, {"ball": 0.0}), "shiny red")
    assert without == score_of(painted_head(4, {}), "shiny red")


def test_what_is_read_hangs_less_on_where_the_mask_ends_than_a_single_view_does(
    head: AlignmentHead, examples: list[Example]
) -> None:
    def single(example: Example, mask: NDArray[np.float32]) -> float:
        with torch.inference_mode():
            logits = head.network(torch.from_numpy(crop_inside(example.image, mask))[None])[0]
        shapes = head.vocabulary.slots["shape"]
        at = list(shapes).index(example.words["shape"])
        return float(torch.softmax(logits[: len(shapes)], -1)[at])

    def averaged(example: Example, mask: NDArray[np.float32]) -> float:
        return head.likelihoods(example.image, mask)["shape"][example.words["shape"]]

    def moves(read_by: Callable[[Example, NDArray[np.float32]], float]) -> float:
        moved = [(example, np.roll(example.mask, 4, axis=1)) for example in examples]
        return float(np.mean([abs(read_by(each, mask) - read_by(each, each.mask)) for each, mask in moved]))

    assert 0 < moves(averaged) < moves(single)
