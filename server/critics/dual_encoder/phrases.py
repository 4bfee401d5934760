"""A prompt as the things that it asks for, each of which can be missing.

A small grammar in place of a parser: prompts are lists of noun phrases held together by commas and a few
words. What it cannot split stays one phrase, which is still judged.
"""

from __future__ import annotations

import re

__all__ = ["MAX_PHRASES", "asks_for_nothing", "split_phrases"]

MAX_PHRASES = 6
_JOINTS = re.compile(
    r"\s*(?:[,;.:\n]|\b(?:and|with|wearing|holding|next to|in front of|on top of|on|in|under|over|above|below|"
    r"behind|beside|between|near|inside|against|by)\b)\s*"
)
_OPENINGS = re.compile(
    r"^(?:please\s+)?(?:add|put|place|insert|draw|paint|make it|turn it into|replace (?:it|this|that) with|"
    r"a (?:photo|photograph|picture|image) of|there is|there are)\s+"
)
_ARTICLES = re.compile(r"^(?:a|an|the|some|its|his|her|their)\s+")
_REMOVALS = re.compile(
    r"^(?:remove|erase|delete|clean up|get rid of)\b|^(?:background|nothing|empty|empty background)$"
)
_EMPTY = frozenset({"", "it", "clear view", "focus", "whole", "the background"})


def split_phrases(prompt: str) -> list[str]:
    """The phrases of a prompt, in order, each once, at most six; empty when it asks for nothing to be there."""
    if asks_for_nothing(prompt):
        return []
    text = _OPENINGS.sub("", prompt.strip().lower())
    found: list[str] = []
    for part in _JOINTS.split(text):
        phrase = _ARTICLES.sub("", _OPENINGS.sub("", part.strip()))
        if phrase not in _EMPTY and phrase not in found and re.search(r"[^\W\d_]", phrase):
            found.append(phrase)
    return found[:MAX_PHRASES]


def asks_for_nothing(prompt: str) -> bool:
    """Whether the prompt asks for something to be taken out: no text says what should be seen then."""
    return bool(_REMOVALS.search(prompt.strip().lower().rstrip(".!")))
