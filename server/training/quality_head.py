"""ELIQ's last stage: a head on a frozen multimodal model, from label-free pairs.

What the model makes of a candidate is computed once and kept; the head is trained on that. Orders are asked for within
one content only: a perfect answer over a faulty one and a milder fault over a graver one for visual quality, an
edit's own prompt over another's for prompt alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.multimodal.head import HEAD_QUESTION, QualityHead, network_features
from editcritic.server.critics.multimodal.model import MultimodalModel
from editcritic.server.critics.multimodal.showing import show, show_candidate
from editcritic.server.critics.network.runner import NetworkRunner
from editcritic.server.training.engine_pairs import EngineAnswers
from editcritic.server.training.pairs import Group
from editcritic.v1.errors import InvalidInput

__all__ = ["Rung", "Seen", "head_accuracy", "ladder_of_answers", "ladder_of_group", "train_head"]

VISUAL_QUALITY, PROMPT_ALIGNMENT = 0, 1
_RATE, _DECAY = 3e-4, 0.05
_LEAST_LADDERS = 4
_SAVE_STEPS = 50


@dataclass(frozen=True, eq=False)
class Seen:
    """What is made of one candidate.

    Attributes:
        states: the multimodal model's, (T, D).
        seen: which of them are pictures', (T,) bool.
        features: of the quality network, (F,); None without one.
    """

    states: Tensor
    seen: Tensor
    features: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Rung:
    """Two candidates of one edit, of which the first is better.

    Attributes:
        dimension: 0 for visual quality, 1 for prompt alignment.
    """

    better: Seen
    worse: Seen
    dimension: int


def ladder_of_group(
    model: MultimodalModel, group: Group, cache: Path | None = None, network: NetworkRunner | None = None
) -> list[Rung]:
    """The known orders of a group of injected faults.

    Args:
        network: whose features stand beside the model's states; None for the states alone.
        cache: file to keep the states in, or to take them from.
    """
    seen = _kept(cache, lambda: [_look(model, network, group, image) for image in group.candidates])
    pairs = [
        (one, other)
        for one, name in enumerate(group.injected)
        for other, worse in enumerate(group.injected)
        if worse
        and worse != "unchanged"
        and (not name or (name == worse and group.severities[one] < group.severities[other]))
    ]
    return [Rung(seen[one], seen[other], VISUAL_QUALITY) for one, other in pairs]


def ladder_of_answers(
    model: MultimodalModel,
    answers: EngineAnswers,
    other_prompt: str,
    cache: Path | None = None,
    network: NetworkRunner | None = None,
) -> list[Rung]:
    """The best answer under its own prompt and under another edit's: prompt alignment."""
    edit = DecodedEdit(answers.name, answers.source, answers.mask)
    pictures = show_candidate(show(edit), answers.answers[0])[:3]

    def look() -> list[Seen]:
        features = network_features(network, edit, answers.answers[0]) if network else None
        return [_states(model, pictures, prompt, features) for prompt in (answers.prompt, other_prompt)]

    own, foreign = _kept(cache, look)
    return [Rung(own, foreign, PROMPT_ALIGNMENT)]


def train_head(
    ladders: Sequence[Sequence[Rung]],
    folder: Path,
    steps: int,
    seed: int = 0,
    told: Callable[[int, float], None] | None = None,
) -> QualityHead:
    """Train a head; a run that was broken off goes on from its last fifty steps.

    Args:
        ladders: of each edit.
        folder: keeps `head.pt`.
        told: gets (step, loss).

    Raises:
        InvalidInput: there are too few edits.
    """
    known = [ladder for ladder in ladders if ladder]
    if len(known) < _LEAST_LADDERS:
        raise InvalidInput(
            f"{len(known)} edits are too few to learn from; at least {_LEAST_LADDERS} are needed"
        )
    torch.manual_seed(seed)
    beside = known[0][0].better.features
    head = QualityHead(known[0][0].better.states.shape[1], 0 if beside is None else len(beside))
    optimiser = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=_DECAY)
    checkpoint, first = folder / "head.pt", 0
    folder.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        head.load_state_dict(state["head"])
        optimiser.load_state_dict(state["optimiser"])
        first = int(state["step"])
    for step in range(first, steps):
        ladder = known[int(np.random.default_rng((seed, step)).integers(len(known)))]
        loss = torch.stack([_wrong_order(head, rung) for rung in ladder]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % _SAVE_STEPS == 0 or step + 1 == steps:
            kept = {"head": head.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            torch.save(kept, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
        if told is not None:
            told(step + 1, float(loss.detach()))
    return head.eval()


@torch.no_grad()
def head_accuracy(head: QualityHead, ladders: Sequence[Sequence[Rung]]) -> dict[int, tuple[float, int]]:
    """Share of pairs in order and their number, by dimension."""
    hits: dict[int, list[bool]] = {}
    for rung in (rung for ladder in ladders for rung in ladder):
        means = [_read(head, each)[0][rung.dimension] for each in (rung.better, rung.worse)]
        hits.setdefault(rung.dimension, []).append(bool(means[0] > means[1]))
    return {dimension: (float(np.mean(found)), len(found)) for dimension, found in hits.items()}


def _wrong_order(head: QualityHead, rung: Rung) -> Tensor:
    """Minus the log-probability of the right order of two Gaussians (EditReward, 2025)."""
    (better, doubt), (worse, other) = (_read(head, each) for each in (rung.better, rung.worse))
    spread = (doubt.exp() + other.exp() + 1e-4).sqrt()
    order = ((better - worse) / spread)[rung.dimension].clamp(-12, 12)
    # A little pull keeps the scale where the normal distribution can still tell scores apart.
    loss: Tensor = -torch.special.log_ndtr(order) + 1e-3 * (better.square() + worse.square()).sum()
    return loss


def _read(head: QualityHead, seen: Seen) -> tuple[Tensor, Tensor]:
    read: tuple[Tensor, Tensor] = head(seen.states, seen.seen, seen.features)
    return read


def _look(model: MultimodalModel, network: NetworkRunner | None, group: Group, image: np.ndarray) -> Seen:
    edit = DecodedEdit("head", group.source, group.alpha)
    features = network_features(network, edit, image) if network else None
    return _states(model, show_candidate(show(edit), image)[:3], "", features)


def _states(
    model: MultimodalModel, pictures: Sequence[np.ndarray], prompt: str, features: Tensor | None
) -> Seen:
    question = HEAD_QUESTION.replace("{prompt}", model.plain(prompt) or "(nothing was said)")
    return Seen(*model.hidden_states(pictures, question), features)


def _kept(cache: Path | None, make: Callable[[], list[Seen]]) -> list[Seen]:
    if cache is not None and cache.exists():
        kept = load_file(cache)
        count = sum(name.endswith(".states") for name in kept)
        return [
            Seen(kept[f"{i}.states"].float(), kept[f"{i}.seen"], kept.get(f"{i}.features"))
            for i in range(count)
        ]
    made = make()
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"{i}.states": each.states.half().contiguous() for i, each in enumerate(made)}
        tensors |= {f"{i}.seen": each.seen.contiguous() for i, each in enumerate(made)}
        tensors |= {
            f"{i}.features": each.features.clone() for i, each in enumerate(made) if each.features is not None
        }
        save_file(tensors, cache.with_suffix(".new"))
        cache.with_suffix(".new").replace(cache)
    return made
