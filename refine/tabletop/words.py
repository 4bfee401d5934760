"""The words that the tabletop engine knows, and what a prompt asks for.

The vocabulary is closed on purpose: an engine that was trained on thirty words should say so rather than guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "ARTICLES",
    "COLOURS",
    "FINISHES",
    "KNOWN",
    "REMOVAL",
    "SIZES",
    "SYNONYMS",
    "THINGS",
    "Wish",
    "known_words",
    "read_prompt",
]

THINGS = ("ball", "cube", "cone", "cylinder", "ring", "star")
COLOURS: dict[str, tuple[float, float, float]] = {
    # sRGB albedo in [0, 1]: far apart from one another under any of the world's lights.
    "red": (0.82, 0.08, 0.08),
    "orange": (0.96, 0.47, 0.05),
    "yellow": (0.95, 0.86, 0.12),
    "green": (0.12, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.85),
    "purple": (0.48, 0.12, 0.70),
    "pink": (0.97, 0.45, 0.68),
    "cyan": (0.10, 0.78, 0.85),
    "white": (0.94, 0.94, 0.93),
    "black": (0.07, 0.07, 0.08),
}
FINISHES = ("shiny", "matte")
SIZES = ("small", "large")
REMOVAL = "background"
ARTICLES = ("a", "an", "the", "and")
# What people write for the same thing; the model only ever sees the word on the right.
SYNONYMS = {
    "sphere": "ball",
    "orb": "ball",
    "box": "cube",
    "block": "cube",
    "tube": "cylinder",
    "can": "cylinder",
    "torus": "ring",
    "donut": "ring",
    "doughnut": "ring",
    "violet": "purple",
    "turquoise": "cyan",
    "glossy": "shiny",
    "polished": "shiny",
    "dull": "matte",
    "matt": "matte",
    "big": "large",
    "tiny": "small",
    "little": "small",
    "huge": "large",
    "empty": REMOVAL,
    "nothing": REMOVAL,
}
KNOWN = (*THINGS, *COLOURS, *FINISHES, *SIZES, REMOVAL)


@dataclass(frozen=True)
class Wish:
    """What a prompt asks for. A field is None when the prompt leaves it open; `unknown` holds words that
    mean nothing here.

    `text` is the prompt with only known words in it, in the order given: what the text encoder should read.
    """

    shape: str | None
    colour: str | None
    finish: str | None
    size: str | None
    unknown: tuple[str, ...]
    text: str

    @property
    def removal(self) -> bool:
        """True when nothing is to be placed: the masked region becomes background."""
        return self.shape is None and self.colour is None


def known_words() -> str:
    """The vocabulary as one line for messages."""
    groups = (THINGS, tuple(COLOURS), FINISHES, SIZES, (REMOVAL,))
    return "; ".join(", ".join(group) for group in groups)


def _first(words: list[str], group: tuple[str, ...]) -> str | None:
    return next((word for word in words if word in group), None)


def read_prompt(prompt: str) -> Wish:
    """Read a prompt in free word order; synonyms are mapped, articles dropped, unknown words set aside.

    When two words of one group occur, the first counts for the wish; both stay in `text`.
    """
    words = [SYNONYMS.get(word, word) for word in re.findall(r"[^\W_]+", prompt.lower())]
    words = [word for word in words if word not in ARTICLES]
    kept = [word for word in words if word in KNOWN]
    unknown = tuple(dict.fromkeys(word for word in words if word not in KNOWN))
    return Wish(
        _first(kept, THINGS),
        _first(kept, tuple(COLOURS)),
        _first(kept, FINISHES),
        _first(kept, SIZES),
        unknown,
        " ".join(kept),
    )
