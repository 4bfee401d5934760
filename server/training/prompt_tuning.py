"""Few-shot calibration of a dual encoder by tuning its prompts.

The words around "good" and "bad" are learned from 20 to 50 labels while both encoders stay as they are. A few labels
would teach the words what was photographed rather than how well, so the part of the gradient that also moves the
model's opinion of the *scene* is taken out.

Source: GRMP-IQA (2024), its second stage: shared context tokens, a quality loss, a Kullback-Leibler divergence
between scene logits of student and running teacher, and a projection of the first gradient away from the second where
they agree. Learning rate, number of tokens and scene words are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editcritic.v1.errors import InvalidInput

__all__ = ["SCENES", "PromptTuning", "TunedPrompts", "without_component"]

SCENES = ("animal", "building", "food", "landscape", "person", "plant", "street", "vehicle")
_ANCHORS = ("good", "bad")
_LEAST_LABELS = 8


@dataclass(frozen=True)
class PromptTuning:
    """Settings: context tokens, steps, learning rate, teacher's inertia, and how much of the scene's gradient goes."""

    tokens: int = 4
    steps: int = 60
    rate: float = 2e-2
    inertia: float = 0.9
    removal: float = 1.0
    seed: int = 0


class TunedPrompts(nn.Module):
    """Context tokens before "good" and "bad" for a frozen dual encoder of transformers (CLIP, SigLIP).

    Args:
        model: with `text_model`, `get_text_features`, `get_image_features`.
        tokenizer: callable on a list of strings, gives `input_ids` padded to one length.
        settings: see `PromptTuning`.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: PromptTuning) -> None:
        super().__init__()
        self._model, self._tokenizer = model.eval().requires_grad_(False), tokenizer
        self._table: nn.Module = model.text_model.embeddings.token_embedding
        width = next(self._table.parameters()).shape[1]
        generator = torch.Generator().manual_seed(settings.seed)
        self.context = nn.Parameter(torch.randn(settings.tokens, width, generator=generator) * 0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Probability of "good" for each image, (B,) in [0, 1]; images as the model wants its pixels."""
        return torch.softmax(self._logits(images, _ANCHORS), -1)[:, 0]

    def scene_logits(self, images: Tensor) -> Tensor:
        """(B, 8): what the tuned words make of the scene."""
        return self._logits(images, SCENES)

    def _logits(self, images: Tensor, words: Sequence[str]) -> Tensor:
        filler = " ".join(["x"] * len(self.context))
        ids = self._tokenizer([f"{filler} {word}" for word in words], padding=True, return_tensors="pt")
        with self._inserted():
            text = _features(self._model.get_text_features(input_ids=ids["input_ids"]))
        pictures = _features(self._model.get_image_features(pixel_values=images))
        scale = self._model.logit_scale.exp()
        logits: Tensor = scale * F.normalize(pictures, dim=-1) @ F.normalize(text, dim=-1).T
        return logits

    @contextmanager
    def _inserted(self) -> Iterator[None]:
        """Puts the context in place of the fillers, after the token that begins a text."""

        def insert(_module: nn.Module, _given: Any, embedded: Tensor) -> Tensor:
            count = len(self.context)
            context = self.context.expand(embedded.shape[0], -1, -1).to(embedded.dtype)
            return torch.cat([embedded[:, :1], context, embedded[:, 1 + count :]], 1)

        handle = self._table.register_forward_hook(insert)
        try:
            yield
        finally:
            handle.remove()

    def fit(self, images: Tensor, labels: Tensor, settings: PromptTuning) -> list[float]:
        """Learn the context from labels (B,) in [0, 1]; the quality loss of each step.

        Raises:
            InvalidInput: fewer than 8 labels.
        """
        if len(labels) < _LEAST_LABELS:
            raise InvalidInput(f"{len(labels)} labels are too few to tune prompts; give 20 to 50")
        optimiser = torch.optim.Adam([self.context], lr=settings.rate)
        teacher, losses = self.context.detach().clone(), []
        for _ in range(settings.steps):
            quality = F.binary_cross_entropy(self(images).clamp(1e-6, 1 - 1e-6), labels)
            wanted = torch.autograd.grad(quality, self.context)[0]
            scene = self._scene_gradient(images, teacher)
            self.context.grad = without_component(wanted, scene, settings.removal)
            optimiser.step()
            teacher.lerp_(self.context.detach(), 1 - settings.inertia)
            losses.append(float(quality.detach()))
        return losses

    def _scene_gradient(self, images: Tensor, teacher: Tensor) -> Tensor:
        student = F.log_softmax(self.scene_logits(images), -1)
        own = self.context.data
        self.context.data = teacher
        with torch.no_grad():
            target = torch.softmax(self.scene_logits(images), -1)
        self.context.data = own
        divergence = F.kl_div(student, target, reduction="batchmean")
        return torch.autograd.grad(divergence, self.context)[0]


def without_component(gradient: Tensor, other: Tensor, share: float = 1.0) -> Tensor:
    """`gradient` without (`share` of) its component along `other`, where the two agree; else as it is."""
    agreement = (gradient * other).sum()
    if float(agreement) <= 0:
        return gradient
    return gradient - share * agreement / other.square().sum().clamp_min(1e-12) * other


def _features(output: Any) -> Tensor:
    """Newer transformers wrap features in an output object."""
    found = output if isinstance(output, Tensor) else output.pooler_output
    return torch.as_tensor(found)
