"""Prompts in free word order, and words that mean nothing here."""

from __future__ import annotations

import pytest

from editcritic.refine.tabletop.words import COLOURS, FINISHES, KNOWN, REMOVAL, THINGS, read_prompt


@pytest.mark.parametrize(
    ("prompt", "shape", "colour", "finish"),
    [
        ("a shiny red ball", "ball", "red", "shiny"),
        ("red ball", "ball", "red", None),
        ("a blue matte cube", "cube", "blue", "matte"),
        ("Ball, RED!", "ball", "red", None),
        ("a glossy turquoise torus", "ring", "cyan", "shiny"),
        ("star", "star", None, None),
    ],
)
def test_word_order_case_and_synonyms_do_not_matter(
    prompt: str, shape: str, colour: str | None, finish: str | None
) -> None:
    wish = read_prompt(prompt)
    assert (wish.shape, wish.colour, wish.finish, wish.unknown) == (shape, colour, finish, ())
    assert not wish.removal


@pytest.mark.parametrize("prompt", ["", "background", "an empty background", "nothing", "  "])
def test_removal_is_asked_for_by_saying_nothing_or_background(prompt: str) -> None:
    assert read_prompt(prompt).removal


def test_unknown_words_are_set_aside_once_each() -> None:
    wish = read_prompt("a red dragon fights a dragon on a ball")
    assert wish.unknown == ("dragon", "fights", "on")
    assert wish.text == "red ball"


def test_a_prompt_of_any_length_and_alphabet_is_read() -> None:
    wish = read_prompt("красный шар " * 1000 + "red ball")
    assert (wish.text, len(wish.unknown)) == ("red ball", 2)


def test_the_vocabulary_is_as_large_as_promised() -> None:
    assert len(THINGS) >= 5
    assert len(COLOURS) >= 8
    assert len(FINISHES) >= 2
    assert REMOVAL in KNOWN
    assert len(set(KNOWN)) == len(KNOWN)
