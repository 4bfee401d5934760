"""A prompt taken apart: what is asked for, how it is told, how it hangs together, what is not to be there."""

from __future__ import annotations

import pytest

from editcritic.refine.phrases import Phrase, read_wish, words_of


def asked(prompt: str) -> list[str]:
    return [phrase.told for phrase in read_wish(prompt).asked]


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a shiny red ball", ["a shiny red ball"]),
        ("red ball", ["red ball"]),
        ("a red ball and a blue cube", ["a red ball", "a blue cube"]),
        ("a dog and cat", ["a dog", "cat"]),
        ("a cat and red ball", ["a cat", "red ball"]),
        ("a red and blue ball", ["a red blue ball"]),
        ("a black and white cat", ["a black white cat"]),
        ("a ball that is orange", ["an orange ball"]),
        ("a ball which is red and shiny", ["a red shiny ball"]),
        ("an apple, red and shiny", ["a shiny red apple"]),
        ("a house made of wood", ["a wood house"]),
        ("a glass of red wine", ["a glass of red wine"]),
        ("a cat sitting on the sofa", ["a sitting cat", "the sofa"]),
        ("a wooden ceiling", ["a wooden ceiling"]),
        ("a man's blue t-shirt", ["a man's blue t-shirt"]),
        ("a woman with long hair, holding a cup of coffee", ["a woman", "long hair", "a cup of coffee"]),
        ("one swan in front of the bridge at sunset", ["one swan", "the bridge", "sunset"]),
        ("a photograph of a red ball, whole, in focus", ["a red ball"]),
        ("a close-up photo of a rose", ["a rose"]),
        ("(a red ball:1.3), a cube", ["a red ball", "a cube"]),
        ("two dogs. A red car.", ["two dogs", "a red car"]),
        ("a red ball, a red ball", ["a red ball"]),
        ("I want a bicycle leaning against the wall", ["a leaning bicycle", "the wall"]),
        ("Please add two birds to the sky.", ["two birds", "the sky"]),
        ("put a red hat on the dog", ["a red hat", "the dog"]),
        ("make the ball blue", ["blue ball"]),
        ("change the colour of the car to red", ["red car"]),
        ("turn the dog into a cat", ["a cat"]),
        ("there is a lamp", ["a lamp"]),
        ("красный мяч", ["красный мяч"]),
        ("一个红球", ["一个红球"]),
        ("", []),
        ("!!! 42 ...", []),
        ("it", []),
    ],
)
def test_what_a_prompt_asks_for(prompt: str, phrases: list[str]) -> None:
    assert asked(prompt) == phrases


@pytest.mark.parametrize(
    ("prompt", "command", "gone"),
    [
        ("remove the man in the red shirt", "remove", ["man"]),
        ("Please get rid of the old chair", "remove", ["old chair"]),
        ("could you erase the text?", "remove", ["text"]),
        ("background", "remove", []),
        ("nothing", "remove", []),
        ("replace the dog with a black cat", "replace", ["dog"]),
        ("make the ball blue", "change", []),
        ("add a boat", "add", []),
        ("a boat", "", []),
    ],
)
def test_commands_and_what_is_to_go(prompt: str, command: str, gone: list[str]) -> None:
    wish = read_wish(prompt)
    assert (wish.command, [phrase.text for phrase in wish.gone]) == (command, gone)
    if command == "remove":
        assert not wish.asked


@pytest.mark.parametrize(
    ("prompt", "asked_for", "avoided"),
    [
        ("a dog without a collar", ["dog"], ["collar"]),
        ("an empty street, no people, no cars or trucks", ["empty street"], ["people", "cars", "trucks"]),
        ("a bench with no people", ["bench"], ["people"]),
        ("a sofa instead of the chair", ["sofa"], ["chair"]),
        ("a dog without a collar and a red ball", ["dog", "red ball"], ["collar"]),
        ("replace the dog with a cat", ["cat"], ["dog"]),
    ],
)
def test_what_is_not_to_be_seen(prompt: str, asked_for: list[str], avoided: list[str]) -> None:
    wish = read_wish(prompt)
    assert [phrase.text for phrase in wish.asked] == asked_for
    assert [phrase.text for phrase in wish.avoided] == avoided


def test_a_phrase_knows_its_noun_what_is_said_of_it_and_what_it_hangs_on() -> None:
    apples, bowl, looks = read_wish("three red apples in a bowl, highly detailed").phrases
    assert apples == Phrase("red apples", "apples", ("red",), "three", "three")
    assert (bowl.relation, bowl.kind, bowl.is_tied) == ("in", "place", True)
    assert looks.kind == "style"
    assert (apples.verb, bowl.verb) == ("are", "is")


def test_the_subject_is_the_first_thing() -> None:
    assert read_wish("put a hat on the dog").subject == read_wish("a hat").subject
    assert read_wish("remove the dog").subject is None


def test_words_are_compared_without_plural_endings() -> None:
    assert words_of("Red boxes, two berries; glass!") == ["red", "box", "two", "berry", "glass"]
    assert words_of("A man’s t-shirts") == ["a", "man’s", "t-shirt"]


ODD = [
    "a ",
    "and ",
    "(",
    "no ",
    "a, ",
    "can you please ",
    "i would like you to ",
    "make the ",
    "replace a with ",
    "\x00\n\t",
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ODD)
@pytest.mark.parametrize("end", ["", "x", "!"])
def test_no_prompt_is_too_odd(piece: str, end: str) -> None:
    read_wish(piece * (10_000 // len(piece)) + end)
