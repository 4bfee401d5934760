"""Tuning of an alignment head to an engine: true renderings, and what the engine painted.

Half of every batch is renderings, so that no true word is forgotten; half is the engine's, so that its texture and its
weaker highlights are known. Nobody says what the engine's pictures show: a rendering that went through the engine keeps
its words, and of plain answers only the prompt is known, which is right but for a share that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from editcritic.server.critics.alignment import AlignmentHead
from editcritic.server.training.alignment import Example, Learnable, alignment_loss, learnable

__all__ = ["agreement", "tune_alignment"]

_RATE, _DECAY, _HALF_BATCH = 5e-4, 0.1, 64
_SHIFT_PX, _GAIN = 3, 0.08
_REPORT_STEPS = 25


def tune_alignment(
    head: AlignmentHead,
    renderings: Sequence[Example],
    painted: Sequence[Example],
    wrong: Mapping[str, float],
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> None:
    """Go on teaching a head, in place.

    renderings, painted: both are drawn from equally often. wrong: by slot, how often the engine paints another word
    than was asked. told: gets (step, loss) now and then.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 6))
    vocabulary, network = head.vocabulary, head.network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pools = [[learnable(each, vocabulary, rng) for each in examples] for examples in (renderings, painted)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        chosen = [_varied(pool[i], rng) for pool in pools for i in rng.integers(0, len(pool), _HALF_BATCH)]
        loss = alignment_loss(network, chosen, vocabulary, wrong)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if told is not None and (step + 1) % _REPORT_STEPS == 0:
            told(step + 1, float(loss.detach()))
    network.eval()


def agreement(head: AlignmentHead, examples: Sequence[Example]) -> dict[str, tuple[float, int]]:
    """By slot, the share of words that the head finds the likeliest of theirs, and of how many.

    Over words that were only asked for this is below 1 for a perfect head too.
    """
    hits: dict[str, list[bool]] = {}
    for example in examples:
        likelihoods = head.likelihoods(example.image, example.mask)
        for slot, word in example.words.items():
            likely = max(likelihoods[slot].items(), key=lambda each: each[1])[0]
            hits.setdefault(slot, []).append(likely == word)
    return {slot: (float(np.mean(of)), len(of)) for slot, of in hits.items()}


def _varied(one: Learnable, rng: np.random.Generator) -> Learnable:
    """Mirrored, moved by a few pixels, a little brighter or darker: none of it changes a word."""
    seen = one.seen[..., ::-1] if rng.random() < 0.5 else one.seen
    seen = np.roll(seen, rng.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2), axis=(1, 2)).copy()
    seen[:3] = (seen[:3] + 1) * (1 + rng.uniform(-_GAIN, _GAIN)) - 1
    return one._replace(seen=seen)
