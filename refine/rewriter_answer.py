"""What a language model answered, read strictly: a wording is taken only when it is the same wish in a usable form."""

from __future__ import annotations

import json
import re
from typing import Any

from editcritic.refine.phrases import read_wish, words_of
from editcritic.refine.reprompt import Rewording, WordingCase
from editcritic.v1.errors import ServerFault

__all__ = ["read_answer"]

_KEYS = {"prompt", "negative_prompt", "reason"}
_MOST_REASON_CHARS = 200
_WORDS_PER_WORD, _SPARE_WORDS = 3, 24
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")
_WEIGHTS = re.compile(r"[(\[][^()\[\]]*:\s*\d|\(\(|\+\+|--\w")
_CHATTER = re.compile(
    r"https?:|www\.|```|[<>{}\[\]|\\]|\b(?:ignore|disregard|instructions?|system prompt|as an ai|language model|sorry|"
    r"cannot|here is|here's)\b|(?:^|\s)(?:prompt|answer|output|system|human|user|assistant)\s*:",
    re.IGNORECASE,
)
_COMMANDS = frozenset(
    {"add", "remove", "erase", "delete", "replace", "put", "insert", "change", "make", "draw", "generate"}
)


def read_answer(answer: str, case: WordingCase) -> Rewording:
    """The wording of an answer; JSON, with or without a fence round it.

    Raises:
        ServerFault: it is not usable; the message goes on after the model's name ("left out 'hat'").
    """
    told = _fields(answer)
    prompt, unwanted = (" ".join(told[name].split()) for name in ("prompt", "negative_prompt"))
    _check_form(prompt, case)
    _check_wish(prompt, case)
    unwanted = _negative(unwanted, case)
    reason = " ".join("".join(letter if letter.isprintable() else " " for letter in told["reason"]).split())
    if not reason:
        raise ServerFault("gave no reason")
    return Rewording(prompt, unwanted, None, reason[:_MOST_REASON_CHARS].rstrip("."))


def _fields(answer: str) -> dict[str, str]:
    try:
        told: Any = json.loads(_FENCE.sub("", answer.strip()))
    except (ValueError, RecursionError) as error:
        raise ServerFault("did not answer in JSON") from error
    if (
        not isinstance(told, dict)
        or set(told) != _KEYS
        or not all(isinstance(each, str) for each in told.values())
    ):
        raise ServerFault("did not answer with prompt, negative_prompt and reason as texts")
    return told


def _check_form(prompt: str, case: WordingCase) -> None:
    """Whether it is a prompt at all, in the form and the length that the engine reads. Raises: ServerFault."""
    able, words = case.able, words_of(prompt)
    if not words or not prompt.isprintable():
        raise ServerFault("wrote an empty or unprintable prompt")
    most = _WORDS_PER_WORD * len(words_of(case.prompt)) + _SPARE_WORDS
    tokens = case.count_tokens(prompt)
    if len(words) > most or tokens > able.prompt_tokens:
        raise ServerFault(f"wrote too long a prompt ({len(words)} words, {tokens} tokens)")
    if _CHATTER.search(prompt):
        raise ServerFault("wrote something else than a prompt")
    if _WEIGHTS.search(prompt) and not able.emphasis:
        raise ServerFault("weighed words for an engine that does not read weights")
    if not able.instruction and (read_wish(prompt).command or words[0] in _COMMANDS):
        raise ServerFault("wrote a command for an engine that reads descriptions")
    unknown = [word for word in prompt.lower().replace(",", " ").split() if word not in able.words]
    if able.words and unknown:
        raise ServerFault(f"left the engine's words with {unknown[0][:24]!r}")
    if prompt.lower() == case.prompt.strip().lower():
        raise ServerFault("repeated the prompt")


def _check_wish(prompt: str, case: WordingCase) -> None:
    """Whether everything asked for is still there and nothing that was excluded. Raises: ServerFault."""
    said = set(words_of(prompt))
    for phrase in case.wish.asked:
        left_out = [word for word in words_of(f"{phrase.count} {phrase.text}") if word not in said]
        if left_out:
            raise ServerFault(f"left out {left_out[0][:24]!r} of {phrase.told[:60]!r}")
    wanted = {word for phrase in case.wish.asked for word in words_of(phrase.text)}
    for phrase in read_wish(prompt).asked:
        for avoided in case.wish.avoided:
            heads = set(words_of(avoided.head)) - wanted
            if not case.able.instruction and heads & set(words_of(phrase.text)):
                raise ServerFault(f"asked for {avoided.head[:24]!r}, which the wish excludes")


def _negative(unwanted: str, case: WordingCase) -> str:
    """The negative prompt as far as the engine reads one. Raises: ServerFault when it excludes what is asked for."""
    if not case.reads_negative or case.able.words:
        return case.negative_prompt
    heads = {word for phrase in case.wish.asked for word in words_of(phrase.head)}
    if heads & set(words_of(unwanted)):
        raise ServerFault("excluded what the wish asks for")
    if _CHATTER.search(unwanted) or not unwanted.isprintable() or _is_too_long(unwanted, case):
        raise ServerFault("wrote no usable negative prompt")
    return ", ".join(each for each in dict.fromkeys((case.negative_prompt.strip(), unwanted)) if each)


def _is_too_long(text: str, case: WordingCase) -> bool:
    return case.count_tokens(f"{case.negative_prompt}, {text}") > case.able.prompt_tokens
