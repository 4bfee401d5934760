"""What goes into a negative prompt: what the wish excludes, and the faults that the critique names. Nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.phrases import Wish, words_of
from editcritic.refine.tokens import TokenCounter
from editcritic.v1 import critic_pb2 as pb

__all__ = ["FAULT_WORDS", "unwanted_words"]

FAULT_WORDS: Mapping[pb.DefectKind.ValueType, str] = {
    pb.DEFECT_KIND_MELTED_TEXTURE: "melted texture",
    pb.DEFECT_KIND_WARPED_GEOMETRY: "deformed, bent shapes",
    pb.DEFECT_KIND_DUPLICATED_PART: "duplicate, extra parts",
    pb.DEFECT_KIND_MISSING_PART: "incomplete, cut off",
    pb.DEFECT_KIND_FOREIGN_CONTENT: "unrelated object",
    pb.DEFECT_KIND_TEXTURE_REPEAT: "repeated pattern",
    pb.DEFECT_KIND_FLAT_FILL: "flat colour, empty area",
    pb.DEFECT_KIND_BLACK_FILL: "black area",
    pb.DEFECT_KIND_BANDING: "colour banding",
    pb.DEFECT_KIND_OVERSHARPENED: "halos, oversharpened",
}
"""Faults that a text can name; seams and shifts of colour are mended without words."""

_WORTH_NAMING = 0.15


class _Case(Protocol):
    @property
    def negative_prompt(self) -> str: ...
    @property
    def critique(self) -> pb.Critique: ...
    @property
    def able(self) -> Capabilities: ...
    @property
    def wish(self) -> Wish: ...
    @property
    def reads_negative(self) -> bool: ...
    @property
    def count_tokens(self) -> TokenCounter: ...


def unwanted_words(case: _Case) -> str:
    """The negative prompt: the user's own, what the wish excludes, then faults, gravest first, as far as it is read.

    What is asked for is never excluded. As it was where the engine reads no negative prompt.
    """
    if not case.reads_negative:
        return case.negative_prompt
    asked = {word for phrase in case.wish.asked for word in words_of(phrase.text)}
    graver = sorted(case.critique.defects, key=lambda defect: -defect.severity)
    faults = [FAULT_WORDS.get(each.kind, "") for each in graver if each.severity >= _WORTH_NAMING]
    # Of "replace the red ball with a blue ball" only the red is unwanted.
    excluded = [
        " ".join(word for word in phrase.text.split() if not asked & set(words_of(word)))
        for phrase in case.wish.avoided
    ]
    named = [case.negative_prompt.strip(), *excluded]
    named += [words for words in faults if not asked & set(words_of(words))]
    told: list[str] = []
    for words in dict.fromkeys(named):
        if words and case.count_tokens(", ".join([*told, words])) <= case.able.prompt_tokens:
            told.append(words)
    return ", ".join(told)
