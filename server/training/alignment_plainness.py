"""How plainly an engine's pictures show the words of a slot that is often not to be read, such as a finish.

A highlight on a ball is seen, that on a cube's flat sides hardly. Where two prompts that differ by such a word lead to
pictures that read alike, the reading says little of this picture either. So for each word of the first slot one number
scales the log-odds that the head reads (Platt 1999, without the constant): the one under which the words that were
asked are likeliest. Only prompts are known; that some were not followed makes the number smaller, as it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.alignment import AlignmentHead
from editcritic.server.training.alignment import Example

__all__ = ["with_plainness"]

_LEAST_PICTURES = 40
_LARGEST = 2.0
_SURE = 1e-6


def with_plainness(head: AlignmentHead, answers: Sequence[Example]) -> AlignmentHead:
    """The head with the plainness of each slot that its vocabulary has in `followed`.

    answers: what an engine painted when it was asked; best ones that the head did not learn from. A word of the first
    slot that fewer than 40 of them were asked for is left out.
    """
    vocabulary = head.vocabulary
    first = next(iter(vocabulary.slots))
    read: dict[str, dict[str, list[float]]] = {slot: {} for slot in vocabulary.followed}
    for each in answers:
        likelihoods = head.likelihoods(each.image, each.mask)
        for slot in read.keys() & each.words.keys():
            likelihood = float(np.clip(likelihoods[slot][each.words[slot]], _SURE, 1 - _SURE))
            read[slot].setdefault(each.words.get(first, ""), []).append(np.log(likelihood / (1 - likelihood)))
    plainness = {
        slot: {
            word: round(_slope(np.array(odds)), 2)
            for word, odds in sorted(words.items())
            if word and len(odds) >= _LEAST_PICTURES
        }
        for slot, words in read.items()
    }
    return AlignmentHead(replace(vocabulary, plainness=plainness), head.network)


def _slope(odds: NDArray[np.float64]) -> float:
    """The slope, in [0, 2], under which log-odds (N,) of the words that were asked make these likeliest."""
    from scipy.optimize import minimize_scalar

    def loss(slope: float) -> float:
        return float(np.logaddexp(0.0, -slope * odds).mean())

    return float(minimize_scalar(loss, bounds=(0.0, _LARGEST), method="bounded").x)
