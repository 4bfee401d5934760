"""What of a tuning to keep, and how sure the head may be: both chosen on pictures that were left aside.

A tuned head knows the engine better and renderings worse, and is surer than it should be. Weights between those before
and after are often better than either (Wortsman et al. 2022), and one temperature for each slot makes the stated
probabilities true (Guo et al. 2017); it is multiplied into the last layer, so the head stays what it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editcritic.server.critics.alignment import AlignmentHead, AlignmentNetwork, crop_inside
from editcritic.server.training.alignment import Example

__all__ = ["between", "settle"]

_SHARES = (0.25, 0.5, 0.75, 1.0)
_TEMPERATURES = tuple(np.geomspace(0.7, 8.0, 15).tolist())
_BATCH = 64


def settle(
    before: AlignmentHead,
    after: AlignmentHead,
    kept: Sequence[Sequence[Example]],
) -> AlignmentHead:
    """The head between two that finds the words of the kept pictures likeliest.

    kept: groups that count alike, whatever their number: renderings, and what the engine painted. Prompts count as
    true here: that the engine does not follow all of them is a doubt that the head should have.
    """
    groups = [(_pictures(group), group) for group in kept]
    found = []
    for share in _SHARES:
        head = between(before, after, share)
        logits = [(_logits(head, pictures), group) for pictures, group in groups]
        choices = [_temperature(head, logits, slot) for slot in head.vocabulary.slots]
        found.append((sum(loss for loss, _ in choices), share, head, [each for _, each in choices]))
    _, _, head, temperatures = min(found, key=lambda each: each[0])
    _temper(head, temperatures)
    return head


def between(before: AlignmentHead, after: AlignmentHead, share: float) -> AlignmentHead:
    """A head whose weights are `share` of the way from one to the other."""
    first, second = before.network.state_dict(), after.network.state_dict()
    network = AlignmentNetwork(sum(len(words) for words in before.vocabulary.slots.values()))
    network.load_state_dict(
        {
            name: torch.lerp(value, second[name], share) if value.is_floating_point() else value
            for name, value in first.items()
        }
    )
    return AlignmentHead(before.vocabulary, network)


def _pictures(examples: Sequence[Example]) -> Tensor:
    return torch.from_numpy(np.stack([crop_inside(each.image, each.mask) for each in examples]))


@torch.inference_mode()
def _logits(head: AlignmentHead, pictures: Tensor) -> Tensor:
    return torch.cat([head.network(part) for part in torch.split(pictures, _BATCH)])


def _temperature(
    head: AlignmentHead, groups: Sequence[tuple[Tensor, Sequence[Example]]], slot: str
) -> tuple[float, float]:
    """The lowest mean loss of a slot over the groups, and the temperature at which it has it."""
    slots = head.vocabulary.slots
    start = sum(
        len(words) for name, words in slots.items() if list(slots).index(name) < list(slots).index(slot)
    )
    known = []
    for logits, group in groups:
        rows = [row for row, each in enumerate(group) if slot in each.words]
        if rows:
            places = torch.tensor([list(slots[slot]).index(group[row].words[slot]) for row in rows])
            known.append((logits[rows, start : start + len(slots[slot])], places))
    if not known:
        return 0.0, 1.0
    losses = [
        (float(np.mean([float(F.cross_entropy(part / each, places)) for part, places in known])), each)
        for each in _TEMPERATURES
    ]
    return min(losses)


def _temper(head: AlignmentHead, temperatures: Sequence[float]) -> None:
    counts = torch.tensor([len(words) for words in head.vocabulary.slots.values()])
    rows = torch.repeat_interleave(torch.tensor(temperatures, dtype=torch.float32), counts)
    last = head.network.words
    with torch.no_grad():
        last.weight.div_(rows[:, None])
        last.bias.div_(rows)
