"""The closed word classes of prompts: commands, joints, counts, words that say how and not what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

__all__ = [
    "ADJECTIVES",
    "COMMANDS",
    "COUNTS",
    "FILLERS",
    "NO_POSTURES",
    "OPENINGS",
    "PLACES",
    "RELATIONS",
    "STYLES",
]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PLACE_WORDS = (
    "on top of",
    "in front of",
    "in the middle of",
    "at the top of",
    "at the bottom of",
    "at the edge of",
    "on the left of",
    "on the right of",
    "to the left of",
    "to the right of",
    "next to",
    "close to",
    "on",
    "onto",
    "in",
    "into",
    "inside",
    "at",
    "under",
    "underneath",
    "beneath",
    "over",
    "above",
    "below",
    "behind",
    "beside",
    "between",
    "among",
    "near",
    "against",
    "along",
    "across",
    "around",
    "by",
    "from",
    "to",
)
PLACES = frozenset(_PLACE_WORDS)
"""Joints after which it is only said where something is."""

RELATIONS = (
    "in the style of",
    *_PLACE_WORDS[:12],
    "surrounded by",
    "covered with",
    "covered in",
    "filled with",
    "decorated with",
    "full of",
    "instead of",
    "without",
    "with",
    "wearing",
    "holding",
    "carrying",
    "having",
    "and",
    "plus",
    "or",
    "nor",
    *_PLACE_WORDS[12:],
)
"""Joints between phrases, longer ones before those that they begin with."""

COUNTS = (
    "a few",
    "a couple of",
    "a pair of",
    "a dozen",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "several",
    "many",
    "few",
)
FILLERS = frozenset(
    {"very", "really", "quite", "extremely", "just", "also", "then", "please", "there", "any"}
)

ADJECTIVES = _set(
    "red orange yellow green blue purple violet pink cyan turquoise white black grey gray brown golden silver gold"
    " beige transparent translucent shiny matte glossy dull wooden metallic old new small large big tiny huge tall"
    " short long wide round square empty full open closed wet dry dirty clean bright dark broken asleep awake"
)
"""Adjectives that are known even behind their noun ("make the ball blue")."""

NO_POSTURES = _set(
    "ceiling building painting clothing evening morning earring railing wedding lightning drawing pudding stuffing"
    " swing spring string awning flooring icing dressing herring starling duckling sibling bedding plumbing"
)
"""Nouns that end like participles."""

STYLES: Mapping[str, frozenset[str]] = {
    "looks": _set(
        "detailed photorealistic realistic cinematic 4k 8k hdr bokeh lighting style render masterpiece quality sharp"
        " professional photography photographic aesthetic resolution focus view"
    ),
    "empty": frozenset(
        {"", "it", "this", "that", "them", "there", "view", "focus", "photo", "image", "picture", "and", "or"}
        | {
            "region",
            "scene",
            "place",
            "left",
            "right",
            "whole",
            "background",
            "nothing",
            "empty",
            "more",
            "be",
        }
    ),
}
"""Words that say how a picture is to look; heads that name nothing."""

_POLITE = (
    r"(?:please\s+|(?:can|could|would) you\s+|i(?:'d| would)? (?:want|like)(?: you)?(?: to)?\s+|"
    r"let's\s+)*"
)
_ADD = r"(?:add|put|place|insert|draw|paint|create|generate|show|include|give (?:him|her|it|them))"

OPENINGS = re.compile(
    rf"^(?:{_POLITE})(?:{_ADD}\s+(?:me\s+)?|make it (?:look like\s+)?|(?:turn|change|transform) it into\s+|"
    r"(?:an?|the)?\s*(?:[\w-]+\s+)?(?:photo|photograph|picture|image|painting|drawing|close-up|shot|view) of\s+|"
    r"there (?:is|are|should be|must be)\s+|in clear view$|in focus$)?"
)
"""What may stand before the first thing that is asked for."""

COMMANDS: tuple[tuple[Literal["add", "remove", "replace", "change"], str], ...] = (
    (
        "remove",
        rf"^{_POLITE}(?:remove|erase|delete|clear|clean up|get rid of|take (?:out|away)|cut out)\s+(?P<gone>.+)$",
    ),
    ("remove", r"^(?:nothing|empty|background|(?:an?|the)?\s*empty background|(?:just )?the background)$"),
    (
        "replace",
        rf"^{_POLITE}(?:replace|swap|exchange|substitute)\s+(?P<gone>.+?)\s+(?:with|by|for)\s+(?P<new>.+)$",
    ),
    ("replace", rf"^{_POLITE}(?:turn|change|transform|convert)\s+(?P<gone>.+?)\s+into\s+(?P<new>.+)$"),
    (
        "change",
        rf"^{_POLITE}(?:change|set) the colou?r of\s+(?:the |his |her |its )?(?P<thing>.+?)\s+to\s+(?P<new>.+)$",
    ),
    (
        "change",
        rf"^{_POLITE}(?:make|paint|colou?r|dye)\s+(?:the|his|her|its|this|that)\s+(?P<thing>.+?)\s+(?P<new>{'|'.join(sorted(ADJECTIVES))})$",
    ),
    ("add", rf"^{_POLITE}{_ADD}\s+(?P<new>.+)$"),
)
"""Commands that prompts begin with: `gone` is to go, `new` is to be seen, `thing` is to look different."""
