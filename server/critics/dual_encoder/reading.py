"""How likely each phrase is seen in a picture, and where."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from editcritic.server.critics.dual_encoder.encoder import Encoder

__all__ = ["AskedPhrases", "PhraseReading", "ask", "read_phrases", "support_map"]

_UNRELATED = (
    "dog",
    "cat",
    "horse",
    "bird",
    "fish",
    "person",
    "face",
    "hand",
    "car",
    "bus",
    "train",
    "ship",
    "aeroplane",
    "bicycle",
    "house",
    "bridge",
    "street",
    "tree",
    "flower",
    "grass",
    "mountain",
    "beach",
    "sea",
    "sky",
    "snow",
    "fruit",
    "bread",
    "table",
    "chair",
    "lamp",
    "book",
    "bottle",
    "shoe",
    "clock",
    "guitar",
    "wall",
)
"""Captions of everyday things: what an unrelated text scores on a picture."""
_TEMPLATE = "a photo of {}"
_EVEN_ODDS = 2.0
"""Spreads above unrelated captions at which a phrase is as likely seen as not."""
_CELLS = 6


@dataclass(frozen=True, eq=False)
class AskedPhrases:
    """A prompt, ready to be compared with many pictures.

    Attributes:
        phrases: what is asked for; the whole prompt last, where it has several phrases.
        points: of the phrases, (P, D).
        unrelated: captions that share no word with the prompt, (U, D).
    """

    phrases: tuple[str, ...]
    points: Tensor
    unrelated: Tensor


@dataclass(frozen=True)
class PhraseReading:
    """One phrase in one picture.

    Attributes:
        phrase: the words.
        margin: how many spreads more alike the picture is than unrelated captions are.
        probability: in [0, 1]; one half at a margin of two.
    """

    phrase: str
    margin: float

    @property
    def probability(self) -> float:
        """The normal distribution at the margin, less two."""
        return float(norm.cdf(self.margin - _EVEN_ODDS))


def ask(encoder: Encoder, phrases: Sequence[str], prompt: str) -> AskedPhrases:
    """Encode the phrases of a prompt, and the captions that have nothing to do with it."""
    asked = [*phrases, prompt] if len(phrases) > 1 else list(phrases)
    words = set(prompt.lower().replace(",", " ").split())
    words |= {word.removesuffix("s") for word in words}
    unrelated = [word for word in _UNRELATED if word not in words]
    points = encoder.texts([_TEMPLATE.format(text) for text in [*asked, *unrelated]])
    return AskedPhrases(tuple(asked), points[: len(asked)], points[len(asked) :])


def read_phrases(asked: AskedPhrases, picture: Tensor) -> list[PhraseReading]:
    """Compare a picture's point (1, D) with every phrase."""
    usual = (asked.unrelated @ picture.T).flatten()
    alike = (asked.points @ picture.T).flatten()
    margins = (alike - usual.mean()) / usual.std().clamp_min(1e-4)
    return [
        PhraseReading(phrase, float(margin)) for phrase, margin in zip(asked.phrases, margins, strict=True)
    ]


def support_map(
    encoder: Encoder, picture: NDArray[np.uint8], point: Tensor, phrase: Tensor
) -> NDArray[np.float32]:
    """Where a picture shows a phrase, (h, w) in [0, 1]: how much hiding each place lowers the likeness.

    Source: occlusion sensitivity (Zeiler and Fergus 2014); it asks nothing of the model's inside.

    Args:
        picture: (h, w, 3) uint8. point: of it, (1, D). phrase: (1, D).
    """
    height, width = picture.shape[:2]
    rows = np.linspace(0, height, _CELLS + 1).astype(int)
    columns = np.linspace(0, width, _CELLS + 1).astype(int)
    colour = picture.reshape(-1, 3).mean(0).astype(np.uint8)
    hidden = []
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            covered = picture.copy()
            covered[top:bottom, left:right] = colour
            hidden.append(covered)
    alike = torch.cat([point, encoder.pictures(hidden)]) @ phrase.T
    lost = (alike[0] - alike[1:]).clamp_min(0).reshape(_CELLS, _CELLS).numpy()
    support = (lost / max(float(lost.max()), 1e-6)).astype(np.float32)
    return np.asarray(cv2.resize(support, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
