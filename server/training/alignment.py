"""Training of an alignment head on examples whose words are known because they were rendered.

The world is handed in: a vocabulary, and a function that draws an example. A rolling pool lets each example be
used a few times, because drawing one costs as much as learning from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from editcritic.server.critics.alignment import AlignmentNetwork, Vocabulary, crop_inside
from editcritic.server.training.pairs import reencode

__all__ = ["Example", "save_head", "train_alignment"]

_RATE, _DECAY, _BATCH, _POOL, _FRESH, _FIRST = 2e-3, 0.03, 128, 16_000, 32, 1500
_SOFT_SHARE = 0.6
_REPORT_STEPS = 50


@dataclass(frozen=True, eq=False)
class Example:
    """A picture whose words are known.

    Attributes:
        image: (H, W, 3) uint8.
        mask: (H, W) float32 in [0, 1].
        words: the true word of each slot; a slot without one is not learned from.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.float32]
    words: Mapping[str, str]


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
    pool = [_learnable(draw(rng), vocabulary, rng) for _ in range(_FIRST)]
    for step in range(steps):
        for fresh in range(_FRESH):
            learnable = _learnable(draw(rng), vocabulary, rng)
            if len(pool) < _POOL:
                pool.append(learnable)
            else:
                pool[(step * _FRESH + fresh) % _POOL] = learnable
        chosen = [pool[i] for i in rng.integers(0, len(pool), _BATCH)]
        loss = _loss(network, chosen, vocabulary)
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


def _learnable(
    example: Example, vocabulary: Vocabulary, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[int]]:
    image = example.image
    if rng.random() < _SOFT_SHARE:
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
    return seen, places


def _loss(
    network: AlignmentNetwork, chosen: list[tuple[NDArray[np.float32], list[int]]], vocabulary: Vocabulary
) -> Tensor:
    pictures = torch.from_numpy(np.stack([each[0] for each in chosen]))
    places = torch.tensor([each[1] for each in chosen])
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pictures.contiguous(memory_format=torch.channels_last)).float()
    parts = logits.split([len(words) for words in vocabulary.slots.values()], dim=1)
    losses = [
        F.cross_entropy(part, places[:, i], ignore_index=-1, label_smoothing=0.02)
        for i, part in enumerate(parts)
        if bool((places[:, i] >= 0).any())
    ]
    return torch.stack(losses).sum()
