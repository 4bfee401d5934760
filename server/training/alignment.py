"""Training of an alignment head on examples whose words are known because they were rendered, or were asked for.

The world is handed in: a vocabulary, and a function that draws an example. A rolling pool lets each example be
used a few times, because drawing one costs as much as learning from it. Words that were only asked of an engine count
as true but for a known share (Patrini et al. 2017, forward correction).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from editcritic.server.critics.alignment import AlignmentNetwork, Vocabulary, crop_inside
from editcritic.server.training.pairs import reencode

__all__ = [
    "Example",
    "Learnable",
    "alignment_loss",
    "learnable",
    "save_head",
    "train_alignment",
]

_RATE, _DECAY, _BATCH, _POOL, _FRESH, _FIRST = 2e-3, 0.03, 128, 16_000, 32, 1500
_SOFT_SHARE = 0.6
_REPORT_STEPS = 50


@dataclass(frozen=True, eq=False)
class Example:
    """A picture whose words are known.

    Attributes:
        image: (H, W, 3) uint8.
        mask: (H, W) float32 in [0, 1].
        words: the word of each slot; a slot without one is not learned from.
        is_true: the words are true; else they were only asked for.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.float32]
    words: Mapping[str, str]
    is_true: bool = True


class Learnable(NamedTuple):
    """An example as the network sees it.

    Attributes:
        seen: (4, 64, 64) float32, as `crop_inside` cuts it.
        places: where the word of each slot stands in it; -1 for a slot that is not learned from.
        is_true: the words are true; else they were only asked for.
    """

    seen: NDArray[np.float32]
    places: list[int]
    is_true: bool


def train_alignment(
    draw: Callable[[np.random.Generator], Example],
    vocabulary: Vocabulary,
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> AlignmentNetwork:
    """Learn from `steps` batches of drawn examples; `told` gets (step, loss) now and then."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 5))
    network = AlignmentNetwork(sum(len(words) for words in vocabulary.slots.values()))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps, pct_start=0.05)
    pool = [learnable(draw(rng), vocabulary, rng) for _ in range(_FIRST)]
    for step in range(steps):
        for fresh in range(_FRESH):
            fresh_one = learnable(draw(rng), vocabulary, rng)
            if len(pool) < _POOL:
                pool.append(fresh_one)
            else:
                pool[(step * _FRESH + fresh) % _POOL] = fresh_one
        chosen = [pool[i] for i in rng.integers(0, len(pool), _BATCH)]
        loss = alignment_loss(network, chosen, vocabulary)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if told is not None and (step + 1) % _REPORT_STEPS == 0:
            told(step + 1, float(loss.detach()))
    network.eval()
    return network


def save_head(network: AlignmentNetwork, vocabulary: Vocabulary, file: Path) -> None:
    """Write float16 weights with the vocabulary in their metadata."""
    tensors = {
        name: tensor.detach().half().contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }
    save_file(tensors, file, metadata={"vocabulary": json.dumps(asdict(vocabulary))})


def learnable(example: Example, vocabulary: Vocabulary, rng: np.random.Generator) -> Learnable:
    """The example cut out; a rendering is softened at random, an engine's picture is soft as it is."""
    image = example.image
    if example.is_true and rng.random() < _SOFT_SHARE:
        # Engines paint softer than renderers draw: a word must not hang on crisp edges.
        soft = Image.fromarray(image)
        share = float(rng.uniform(0.3, 0.9))
        size = (max(8, round(soft.width * share)), max(8, round(soft.height * share)))
        image = np.asarray(soft.resize(size, Image.Resampling.BILINEAR).resize(soft.size), np.uint8)
    if rng.random() < 0.2:
        image = reencode(image, int(rng.integers(40, 95)))
    seen = crop_inside(image, example.mask)
    seen[:3] += rng.normal(0, rng.uniform(0, 0.08), seen[:3].shape).astype(np.float32)
    places = [
        list(words).index(example.words[slot]) if slot in example.words else -1
        for slot, words in vocabulary.slots.items()
    ]
    return Learnable(seen, places, example.is_true)


def alignment_loss(
    network: AlignmentNetwork,
    chosen: Sequence[Learnable],
    vocabulary: Vocabulary,
    wrong: Mapping[str, float] | None = None,
) -> Tensor:
    """Negative log-likelihood of the words, summed over slots.

    wrong: by slot, how often a picture shows another word than was asked; none at all without it. For words that
    were only asked for the likelihood is that of having been asked, given what the network says is true.
    """
    pictures = torch.from_numpy(np.stack([each.seen for each in chosen]))
    places = torch.tensor([each.places for each in chosen])
    was_asked = torch.tensor([not each.is_true for each in chosen])
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pictures.contiguous(memory_format=torch.channels_last)).float()
    parts = logits.split([len(words) for words in vocabulary.slots.values()], dim=1)
    losses = []
    for i, (slot, part) in enumerate(zip(vocabulary.slots, parts, strict=True)):
        known = places[:, i] >= 0
        if bool(known.any()):
            share = was_asked[known] * (wrong or {}).get(slot, 0.0)
            losses.append(_slot_loss(part[known], places[known, i], was_asked[known], share))
    return torch.stack(losses).sum()


def _asked_losses(logits: Tensor, places: Tensor, wrong: Tensor) -> Tensor:
    """Negative log-likelihood of having been asked for a word, of each row (B,).

    logits: (B, words of a slot). places: (B,) of the word that was asked for. wrong: (B,) share of pictures that show
    another word.
    """
    own = torch.softmax(logits, dim=1).gather(1, places[:, None])[:, 0]
    asked = (1 - wrong) * own + wrong / (logits.shape[1] - 1) * (1 - own)
    return -asked.clamp_min(1e-6).log()


def _slot_loss(logits: Tensor, places: Tensor, was_asked: Tensor, wrong: Tensor) -> Tensor:
    true = F.cross_entropy(logits, places, label_smoothing=0.02, reduction="none")
    return torch.where(was_asked, _asked_losses(logits, places, wrong), true).mean()
