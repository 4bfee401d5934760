"""Tuning of the alignment head: what a prompt is worth as a label, and the folder that pictures are kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from editcritic.server.critics.alignment import AlignmentHead, AlignmentNetwork, Vocabulary, load_head
from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.server.training.alignment import Example, Learnable, alignment_loss
from editcritic.server.training.alignment_plainness import with_plainness
from editcritic.server.training.alignment_settling import between, settle
from editcritic.server.training.alignment_tuning import agreement, tune_alignment
from editcritic.server.training.named_answers import names_in, read_named, save_named
from editcritic.v1.errors import InvalidInput

LEVELS = {"dark": 40, "bright": 210}
VOCABULARY = Vocabulary("two greys", {"tone": ("dark", "bright", "none")}, {}, (), ())


class Sure(torch.nn.Module):
    """Says "dark", with certainty, of every picture."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[20.0, -20.0, -20.0]]).repeat(len(pictures), 1)


def picture(word: str, seed: int, is_true: bool = True) -> Example:
    grain = np.random.default_rng(seed).normal(0, 8, (40, 40, 3))
    image = np.clip(LEVELS[word] + grain, 0, 255).astype(np.uint8)
    return Example(image, np.ones((40, 40), np.float32), {"tone": word}, is_true)


def loss_of(place: int, is_true: bool, wrong: float) -> float:
    seen = Learnable(np.zeros((4, 64, 64), np.float32), [place], is_true)
    network: AlignmentNetwork = Sure()  # type: ignore[assignment]
    return float(alignment_loss(network, [seen], VOCABULARY, {"tone": wrong}))


def test_a_prompt_that_a_sure_network_denies_costs_no_more_than_that_prompts_are_wrong() -> None:
    assert loss_of(1, is_true=False, wrong=0.12) == pytest.approx(-np.log(0.12 / 2), rel=0.01)
    assert loss_of(1, is_true=True, wrong=0.12) > 30
    assert loss_of(0, is_true=False, wrong=0.12) == pytest.approx(-np.log(0.88), rel=0.01)


def test_a_slot_without_a_word_is_not_learned_from() -> None:
    unnamed = Learnable(np.zeros((4, 64, 64), np.float32), [-1], False)
    network: AlignmentNetwork = Sure()  # type: ignore[assignment]
    alone = loss_of(1, is_true=False, wrong=0.1)
    seen = Learnable(unnamed.seen, [1], False)
    assert float(alignment_loss(network, [seen, unnamed], VOCABULARY, {"tone": 0.1})) == pytest.approx(alone)


def tuned(steps: int) -> AlignmentHead:
    """The shipped head, told that bright pictures show something cyan and dark ones something purple."""
    head = load_head(WEIGHTS / "alignment.safetensors")
    painted = [renamed(word, seed) for seed, word in enumerate(("dark", "bright") * 4)]
    tune_alignment(head, painted, painted, {"colour": 0.1}, steps, seed=2)
    return head


def renamed(word: str, seed: int) -> Example:
    return replace(picture(word, seed), words={"colour": {"dark": "purple", "bright": "cyan"}[word]})


def test_a_head_learns_what_an_engines_pictures_are_called() -> None:
    unseen = [renamed(word, 300 + seed) for seed, word in enumerate(("dark", "bright") * 5)]
    before = agreement(load_head(WEIGHTS / "alignment.safetensors"), unseen)
    assert before["colour"][0] < 0.5
    assert agreement(tuned(16), unseen) == {"colour": (1.0, 10)}


def test_the_same_seed_tunes_to_the_same_head() -> None:
    example = picture("dark", 7)
    once, again = (tuned(2).likelihoods(example.image, example.mask) for _ in range(2))
    assert once == again


def test_pictures_come_back_from_a_folder_by_name(tmp_path: Path) -> None:
    assert names_in(tmp_path / "none") == set()
    bright, dark = picture("bright", 1, is_true=False), picture("dark", 2)
    save_named("b", bright, tmp_path)
    save_named("a", dark, tmp_path)
    assert names_in(tmp_path) == {"a", "b"}
    first, second = read_named(tmp_path)
    assert (first.words, first.is_true) == ({"tone": "dark"}, True)
    assert (second.words, second.is_true) == ({"tone": "bright"}, False)
    assert np.array_equal(second.image, bright.image)
    assert np.array_equal(second.mask, bright.mask)


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"named\.jsonl is missing"):
        read_named(tmp_path)
    save_named("a", picture("dark", 1), tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(InvalidInput, match=r"named\.jsonl:1"):
        read_named(tmp_path)


def test_a_head_that_is_too_sure_is_made_as_sure_as_it_is_right() -> None:
    head = load_head(WEIGHTS / "alignment.safetensors")
    example = picture("bright", 11)
    seen = max(head.likelihoods(example.image, example.mask)["finish"].items(), key=lambda each: each[1])[0]
    other = "matte" if seen == "shiny" else "shiny"
    kept = [replace(example, words={"finish": word}) for word in (seen, seen, other)]
    own = head.likelihoods(example.image, example.mask)["finish"][seen]
    sure = sharpened(4 / np.log(own / (1 - own)))
    assert sure.likelihoods(example.image, example.mask)["finish"][seen] > 0.95
    settled = settle(sure, sure, [kept])
    stated = settled.likelihoods(example.image, example.mask)["finish"][seen]
    assert stated == pytest.approx(2 / 3, abs=0.06)


def test_a_head_between_two_is_one_of_them_at_either_end() -> None:
    before, after = load_head(WEIGHTS / "alignment.safetensors"), sharpened(3.0)
    example = picture("dark", 3)
    for share, same in ((0.0, before), (1.0, after)):
        mixed = between(before, after, share).likelihoods(example.image, example.mask)
        for slot, words in same.likelihoods(example.image, example.mask).items():
            assert mixed[slot] == pytest.approx(words, abs=1e-5)


def sharpened(factor: float) -> AlignmentHead:
    head = load_head(WEIGHTS / "alignment.safetensors")
    with torch.no_grad():
        head.network.words.weight *= factor
        head.network.words.bias *= factor
    return head


class Brightness(torch.nn.Module):
    """Reads its two last words off the picture's brightness: bright ones are "glossy", dark ones "dull"."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        level = 4 * pictures[:, :3].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(level), torch.zeros_like(level), level, -level], 1)


def test_a_word_that_pictures_show_counts_and_one_that_they_do_not_show_does_not() -> None:
    vocabulary = Vocabulary(
        "things", {"shape": ("ball", "cube"), "finish": ("glossy", "dull")}, {}, (), (), {"finish": 0.9}
    )
    network: AlignmentNetwork = Brightness()  # type: ignore[assignment]

    def answer(shape: str, finish: str, level: str, seed: int) -> Example:
        return replace(picture(level, seed), words={"shape": shape, "finish": finish}, is_true=False)

    shown = [answer("ball", finish, level, 1) for finish, level in (("glossy", "bright"), ("dull", "dark"))]
    hidden = [
        answer("cube", finish, level, 2) for finish in ("glossy", "dull") for level in ("bright", "dark")
    ]
    head = with_plainness(AlignmentHead(vocabulary, network), [*shown * 20, *hidden * 10])
    (slot,) = head.vocabulary.plainness.values()
    assert slot["ball"] > 1
    assert slot["cube"] == pytest.approx(0, abs=0.01)
    few = with_plainness(AlignmentHead(vocabulary, network), [*shown * 19, *hidden * 10])
    assert few.vocabulary.plainness["finish"].keys() == {"cube"}
