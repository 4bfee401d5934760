"""Whether the region shows what the prompt asks for, for prompts of a closed vocabulary.

A small head that was trained on renderings of one engine's world. It names its vocabulary and abstains on every
prompt with a word outside it: a guess would be a number without a meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.finding import Finding, figure, strength_of
from editcritic.server.critics.scoring import Abstention, abstained, scored
from editcritic.server.critics.views import mask_box
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

__all__ = ["SIDE", "AlignmentHead", "AlignmentNetwork", "Reading", "Vocabulary", "crop_inside", "load_head"]

SIDE = 64
NONE = "none"
"""The word of the first slot for an inside in which nothing was placed."""
_JUDGED_FROM = 0.2
# Where the head looks from: (x, y) of the crop's centre from the mask's, as shares of the crop's side, and whether the
# crop is mirrored. What is said of all four hangs less on where the mask happens to end.
_LOOKS = ((-0.04, 0.0, False), (0.04, 0.0, False), (0.0, -0.04, True), (0.0, 0.04, True))
_WIDTHS = (32, 56, 96, 160)
_MISMATCH_BELOW = 0.5
_LEAST = 1e-9  # probability; what a sure network leaves to the other word is more than nothing
# How far a score moves under changes that leave every word true (JPEG, a little blur, grain, exposure, a shift of one
# pixel): root mean square over 103 answers of the engine, in points at sqrt(p * (1 - p)) = 1.
_MOVES = 5.0


@dataclass(frozen=True)
class Vocabulary:
    """Words that a head knows.

    Attributes:
        name: of the world they come from.
        slots: words of each slot ("shape": ("ball", ...)); one word of a slot is true of a picture. The first
            slot has the word `none`.
        synonyms: other words for those.
        removal: words that ask for nothing to be placed.
        ignored: words without a meaning ("a", "the").
        followed: by slot, how often a word that was asked for is painted, before anyone looks. For slots of two words
            that a picture often does not show well enough to be read; without it all words of a slot are as likely.
        plainness: for such a slot, by the word of the first slot that was asked with it, what the log-odds that the
            network reads are multiplied by: near 0 where pictures do not show the word; 1 where nothing is said.
    """

    name: str
    slots: Mapping[str, Sequence[str]]
    synonyms: Mapping[str, str]
    removal: Sequence[str]
    ignored: Sequence[str]
    followed: Mapping[str, float] = field(default_factory=dict)
    plainness: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def read(self, prompt: str) -> tuple[dict[str, str], list[str]]:
        """What a prompt asks for by slot, and the words that are not known."""
        words = [self.synonyms.get(word, word) for word in re.findall(r"[^\W_]+", prompt.lower())]
        asked: dict[str, str] = {}
        unknown = []
        for word in words:
            slot = next((slot for slot, known in self.slots.items() if word in known), None)
            if slot is not None:
                asked.setdefault(slot, word)
            elif word in self.removal:
                asked.setdefault(next(iter(self.slots)), NONE)
            elif word not in self.ignored:
                unknown.append(word)
        return asked, unknown

    def painted_likelihood(self, slot: str, asked: Mapping[str, str], likelihood: float) -> float:
        """Probability that the word asked for in a slot was painted, when the picture alone says `likelihood`.

        Bayes' rule for slots that are in `followed`; for others what the picture says.
        """
        if slot not in self.followed:
            return likelihood
        plainness = self.plainness.get(slot, {}).get(asked.get(next(iter(self.slots)), ""), 1.0)
        before = self.followed[slot]
        odds = before / (1 - before) * (likelihood / max(1 - likelihood, _LEAST)) ** plainness
        return float(odds / (1 + odds))

    def sentence(self) -> str:
        """The vocabulary in one sentence."""
        groups = "; ".join(", ".join(word for word in words if word != NONE) for words in self.slots.values())
        return f"This critic reads prompts of {self.name} only: {groups}; {', '.join(self.removal)}."


@dataclass(frozen=True)
class Reading:
    """What a head says about a candidate and a prompt.

    Attributes:
        score: with a number, or the reason why there is none.
        phrases: probability of each word that was asked for.
        seen: the most probable word of each slot that was asked for.
    """

    score: pb.Score
    phrases: Mapping[str, float]
    seen: Mapping[str, str]

    def finding(self) -> Finding | None:
        """A prompt mismatch, when one word is less likely than not."""
        if not self.phrases or min(self.phrases.values()) >= _MISMATCH_BELOW:
            return None
        word, likelihood = min(self.phrases.items(), key=lambda each: each[1])
        severity = 0.3 + 0.7 * (1 - likelihood / _MISMATCH_BELOW)
        empty = NONE in self.seen.values()
        shown = "nothing placed" if empty else " ".join(self.seen.values())
        evidence = [figure("phrase_probability", likelihood, "fraction")]
        return Finding(
            pb.DEFECT_KIND_PROMPT_MISMATCH,
            strength_of(severity),
            evidence,
            place=f"({word!r} asked, {shown} seen)",
        )


class AlignmentNetwork(nn.Module):
    """(B, 4, 64, 64) in [-1, 1], picture and mask -> logits of all words, slot after slot."""

    def __init__(self, words: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((4, *_WIDTHS), _WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.SiLU()]
            layers += [nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.words = nn.Linear(2 * _WIDTHS[-1], words)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, words)."""
        features = self.features(x)
        logits: Tensor = self.words(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))
        return logits


class AlignmentHead:
    """Reads prompts of one vocabulary.

    Attributes:
        vocabulary: the words.
        network: reads them.
    """

    def __init__(self, vocabulary: Vocabulary, network: AlignmentNetwork) -> None:
        self.vocabulary = vocabulary
        self.network = network.eval()

    def read(self, edit: DecodedEdit, image: NDArray[np.uint8], progress: float | None = None) -> Reading:
        """Judge a candidate (H, W, 3) uint8 against the edit's prompt.

        The score is 100 times the probability that all words that were asked for are true, as if independent.
        """
        why = self._abstention(edit.prompt, progress)
        if why is not None:
            return Reading(abstained(why), {}, {})
        asked, _ = self.vocabulary.read(edit.prompt)
        likelihoods = self.likelihoods(image, edit.denoise_mask)
        phrases = {
            word: self.vocabulary.painted_likelihood(slot, asked, likelihoods[slot][word])
            for slot, word in asked.items()
        }
        seen = {slot: max(likelihoods[slot].items(), key=lambda each: each[1])[0] for slot in asked}
        likelihood = float(np.prod(list(phrases.values())))
        return Reading(scored(100 * likelihood, _doubt(likelihood)), phrases, seen)

    @torch.inference_mode()
    def likelihoods(self, image: NDArray[np.uint8], mask: NDArray[Any]) -> dict[str, dict[str, float]]:
        """Probability of each word of each slot, summing to 1 in a slot."""
        shrunk = _shrunk(image, mask)
        views = [_cut(shrunk, x, y)[..., :: -1 if mirrored else 1] for x, y, mirrored in _LOOKS]
        logits = self.network(torch.from_numpy(np.stack(views))).mean(0)
        parts = logits.split([len(words) for words in self.vocabulary.slots.values()])
        return {
            slot: dict(zip(words, torch.softmax(part, -1).tolist(), strict=True))
            for (slot, words), part in zip(self.vocabulary.slots.items(), parts, strict=True)
        }

    def _abstention(self, prompt: str, progress: float | None) -> Abstention | None:
        asked, unknown = self.vocabulary.read(prompt)
        if not prompt.strip():
            return Abstention(pb.ABSTENTION_REASON_NO_PROMPT, "There is no prompt to compare with.")
        if unknown or not asked:
            words = ", ".join(repr(word[:24]) for word in unknown[:4]) or "no word of it"
            sentence = f"Not known: {words}. " if unknown else "The prompt names nothing. "
            return Abstention(pb.ABSTENTION_REASON_UNKNOWN_WORDS, sentence + self.vocabulary.sentence())
        if progress is not None and progress < _JUDGED_FROM:
            return Abstention(
                pb.ABSTENTION_REASON_TOO_EARLY, f"After {100 * progress:.0f} % of the steps too little shows."
            )
        return None


def _doubt(likelihood: float) -> float:
    """Standard deviation of a score of 100 * likelihood, in points."""
    return max(1.0, _MOVES * float(np.sqrt(likelihood * (1 - likelihood))))


def load_head(file: Path) -> AlignmentHead:
    """The head of a safetensors file whose metadata holds its vocabulary.

    Raises:
        InvalidInput: the file is missing, broken, or of something else.
    """
    try:
        with safe_open(file, "pt") as opened:
            vocabulary = Vocabulary(**json.loads(opened.metadata()["vocabulary"]))
            weights = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118
        network = AlignmentNetwork(sum(len(words) for words in vocabulary.slots.values()))
        network.load_state_dict(weights, strict=False)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{file} is no alignment head: {error}") from error
    # Convolutions this small take a fifth to a third less time with channels last.
    return AlignmentHead(vocabulary, network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def crop_inside(image: NDArray[np.uint8], mask: NDArray[Any]) -> NDArray[np.float32]:
    """(4, 64, 64) float32 in [-1, 1]: a square a tenth wider than the mask, picture and mask."""
    return _cut(_shrunk(image, mask), 0.0, 0.0)


class _Shrunk(NamedTuple):
    """Picture and mask, shrunk until a pixel of the crop is at most two of theirs; the crop's centre and scale."""

    picture: NDArray[np.uint8]
    mask: NDArray[np.float32]
    x: float
    y: float
    scale: float


def _shrunk(image: NDArray[np.uint8], mask: NDArray[Any]) -> _Shrunk:
    box = mask_box(np.asarray(mask, np.float32))
    half = 0.55 * max(box.width, box.height) + 1
    x, y = box.x + box.width / 2, box.y + box.height / 2
    scale = SIDE / (2 * half)
    # Shrinking by more than two would skip pixels: halve first.
    picture, plane = image, np.asarray(mask, np.float32)
    while scale < 0.5:
        picture = np.asarray(cv2.pyrDown(picture), np.uint8)
        plane = np.asarray(cv2.pyrDown(plane), np.float32)
        x, y, scale = x / 2, y / 2, scale * 2
    return _Shrunk(picture, plane, x, y, scale)


def _cut(shrunk: _Shrunk, right: float, down: float) -> NDArray[np.float32]:
    """The crop, its centre moved by shares of its side."""
    picture, plane, x, y, scale = shrunk
    left, top = SIDE * (0.5 - right) - scale * x, SIDE * (0.5 - down) - scale * y
    matrix = np.array([[scale, 0, left], [0, scale, top]], np.float32)
    size = (SIDE, SIDE)
    seen = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    region = cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR)
    planes = [np.moveaxis(seen.astype(np.float32) / 127.5 - 1, -1, 0), region[None] * 2 - 1]
    return np.concatenate(planes).astype(np.float32)
