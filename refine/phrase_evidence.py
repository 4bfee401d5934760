"""What a critique says about the phrases of a prompt: how likely each is seen, and where something is missing.

A critique carries phrases as measurements ("phrase: red ball", a fraction) and as the defect of the weakest one; places
are boxes and maps of the defects. Nothing is guessed: a phrase that the critic did not judge has no likelihood.

Source: targeted refinement by a phrase's alignment map is G-Refine's (arXiv 2404.18343).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.refine.masks import widened_to
from editcritic.refine.phrases import Phrase, Wish, words_of
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import ImageLimits, decode_mask

__all__ = ["PhraseEvidence", "faulty_part", "missed", "read_evidence"]

Array = NDArray[np.float32]

_PREFIX = "phrase: "
_LIKELIHOOD = "phrase_probability"
_ASKED = re.compile(r"\((['\"])(.+?)\1 asked")
_SEEN_FROM = 0.5
_KINDS = (pb.DEFECT_KIND_PROMPT_MISMATCH, pb.DEFECT_KIND_MISSING_PART)
_GROW_SHARE = 0.08
_PART_SHARE = 0.5
"""Above this share of the mask a fault is not in one part of it: the whole is made anew."""


@dataclass(frozen=True)
class PhraseEvidence:
    """One phrase in one candidate.

    Attributes:
        phrase: of the wish.
        likelihood: that it is seen, in [0, 1]; None where the critic did not tell.
        word: the one word of it that is not seen, where the critic judges words; else "".
    """

    phrase: Phrase
    likelihood: float | None = None
    word: str = ""

    @property
    def is_missing(self) -> bool:
        """Rather not seen than seen."""
        return self.likelihood is not None and self.likelihood < _SEEN_FROM


def read_evidence(wish: Wish, critique: pb.Critique) -> list[PhraseEvidence]:
    """What the critique says of each asked phrase, in the wish's order; the least likely reading of each counts."""
    found = {phrase: PhraseEvidence(phrase) for phrase in wish.asked}
    for text, likelihood in _told(critique):
        phrase = _meant(text, wish)
        if phrase is None:
            continue
        known = found[phrase].likelihood
        if known is None or likelihood < known:
            is_part = len(words_of(text)) == 1 and words_of(text) != words_of(phrase.text)
            word = text if is_part else ""
            found[phrase] = PhraseEvidence(phrase, likelihood, word)
    return list(found.values())


def missed(evidence: list[PhraseEvidence]) -> list[PhraseEvidence]:
    """The phrases that are rather not seen, the least likely first."""
    return sorted((each for each in evidence if each.is_missing), key=lambda each: each.likelihood or 0.0)


def faulty_part(critique: pb.Critique, mask: Array) -> Array | None:
    """The part of the mask (H, W) in which something that was asked for is missing or wrong; None for all of it.

    The map of the defect says it where there is one (from half of its peak on), else its box; both a little widened.
    """
    for kind in _KINDS:
        for defect in critique.defects:
            if defect.kind != kind:
                continue
            place = _place(defect, critique, mask.shape)
            part = mask * widened_to(place, round(_GROW_SHARE * float(place.sum()) ** 0.5))
            if 0 < part.sum() <= _PART_SHARE * mask.sum():
                return part
    return None


def _told(critique: pb.Critique) -> Iterator[tuple[str, float]]:
    """Every text that the critic compared, with the likelihood that it is seen."""
    for figure in critique.measurements:
        if figure.name.startswith(_PREFIX):
            yield figure.name.removeprefix(_PREFIX), figure.value
    for defect in critique.defects:
        # Critics that judge words and not phrases name the word nowhere but in the sentence.
        named = _ASKED.search(defect.explanation)
        likelihoods = [figure.value for figure in defect.evidence if figure.name == _LIKELIHOOD]
        if named is not None and likelihoods:
            yield named.group(2), likelihoods[0]


def _meant(text: str, wish: Wish) -> Phrase | None:
    """The phrase that a text speaks of; None for a text of several phrases, or of none."""
    words = set(words_of(text))
    all_words = {phrase: set(words_of(phrase.text)) for phrase in wish.asked}
    if sum(own <= words for own in all_words.values()) > 1:
        return None
    shares = {phrase: len(own & words) / len(own | words) for phrase, own in all_words.items()}
    best = max(shares, key=shares.__getitem__, default=None)
    return best if best is not None and shares[best] > 0 else None


def _place(defect: pb.Defect, critique: pb.Critique, shape: tuple[int, ...]) -> Array:
    """(H, W) of 0 and 1: where the defect is."""
    maps = [each for each in critique.heat_maps if each.kind == defect.kind]
    place = np.zeros(shape, np.float32)
    if not maps:
        box = defect.box
        place[box.y : box.y + box.height, box.x : box.x + box.width] = 1
        return place
    region = maps[0].region
    # A thin mask has a map of a few pixels, which no limit for photographs should refuse.
    levels = Image.fromarray(decode_mask(maps[0].image, ImageLimits(min_side=1)))
    heat = np.asarray(levels.resize((region.width, region.height), Image.Resampling.BILINEAR))
    strong = (heat >= 0.5 * heat.max()) & (heat > 0)
    place[region.y : region.y + region.height, region.x : region.x + region.width] = strong
    return place
