"""Low-rank adapters on a multimodal model, trained stage by stage on lessons; a broken run goes on from its last step.

The same seed, settings and photographs draw the same lessons, so a resumed run sees what an unbroken one would have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from editcritic.server.critics.multimodal.model import MultimodalModel
from editcritic.server.training.instruction.lessons import STAGES, Lesson, lessons_of
from editcritic.server.training.instruction.opinions import opinion_lessons
from editcritic.server.training.instruction.settings import TuningSettings
from editcritic.server.training.pairs import PairSource, Photographs
from editcritic.server.training.suites.opinion import OpinionRow
from editcritic.v1.errors import InvalidInput

__all__ = ["InstructionTuner"]

_WARM_STEPS = 10
_MAX_NORM = 1.0
_SAVE_STEPS = 10
_STRIDE = 7919
"""A prime: a table sorted by opinion is walked through out of order."""

Told = Callable[[str, int, int, float], None]


class InstructionTuner:
    """`InstructionTuner(model, settings, folder, seed).train(photographs)`; leaves an adapter in the folder.

    Args:
        model: that the adapters are put on.
        settings: of the run.
        folder: keeps `tuning.pt` on the way, and the adapter with its processor at the end.

    Raises:
        InvalidInput: peft is missing, or the model has none of the layers that the settings name.
    """

    def __init__(self, model: MultimodalModel, settings: TuningSettings, folder: Path, seed: int = 0) -> None:
        try:
            from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
        except ImportError as error:
            raise InvalidInput("instruction tuning needs peft: pip install 'editcritic[models]'") from error
        torch.manual_seed(seed)
        self._settings, self._folder, self._seed = settings, folder, seed
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(settings.targets),
            task_type="CAUSAL_LM",
        )

        def around(inner: Any) -> Any:
            if settings.bits:
                inner = prepare_model_for_kbit_training(inner)  # type: ignore[no-untyped-call]
            elif model.device.type == "cuda":
                inner.gradient_checkpointing_enable()
                inner.enable_input_require_grads()
            return get_peft_model(inner, config)

        try:
            model.wrap(around)
        except ValueError as error:
            raise InvalidInput(f"{model.name} cannot get these adapters: {error}") from error
        self._model = model
        self._learned = {
            name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
        }
        self._optimiser = torch.optim.AdamW(self._learned.values(), lr=settings.rate)
        self._done = dict.fromkeys(STAGES, 0)
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._load()

    def train(
        self,
        photographs: Photographs,
        told: Told = lambda *_now: None,
        opinions: Sequence[OpinionRow] = (),
    ) -> None:
        """Carry out all stages, or what is left of them, and write the adapter.

        Args:
            told: gets (stage, step, steps, loss).
            opinions: of people; every second lesson comes from them in the stages that they can teach.
        """
        for place, stage in enumerate(STAGES):
            source = PairSource(photographs, self._settings.side, self._seed + 1000 * place)
            own = opinion_lessons(opinions, stage)
            for step in range(self._done[stage], self._settings.steps(stage)):
                loss = self._step(stage, step, self._lessons(stage, source, step, own))
                self._done[stage] = step + 1
                if (step + 1) % _SAVE_STEPS == 0 or step + 1 == self._settings.steps(stage):
                    self._save()
                told(stage, step + 1, self._settings.steps(stage), loss)
        self._model.save(self._folder)

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "tuning.pt"

    def _step(self, stage: str, step: int, lessons: Sequence[Lesson]) -> float:
        # Dropout too is a function of the step, or a resumed run would learn something else.
        own = np.random.SeedSequence((self._seed, STAGES.index(stage), step)).generate_state(1)
        torch.manual_seed(int(own[0]))
        rate = self._settings.rate * min(1.0, (step + 1) / _WARM_STEPS)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for lesson in lessons:
            loss = self._model.answer_loss(lesson.pictures, lesson.question, lesson.answer, lesson.begin)
            (loss / len(lessons)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / len(lessons)
        torch.nn.utils.clip_grad_norm_(self._learned.values(), _MAX_NORM)
        self._optimiser.step()
        return total

    def _lessons(
        self, stage: str, source: PairSource, step: int, opinions: Sequence[Callable[[], Lesson]]
    ) -> Sequence[Lesson]:
        """One lesson of each of as many groups, each time another of the group; every second one an opinion."""
        wanted, found = self._settings.accumulate, list[Lesson]()
        for number in range(step * wanted, (step + 1) * wanted):
            if opinions and number % 2:
                found.append(opinions[(number // 2 * _STRIDE) % len(opinions)]())
                continue
            lessons = lessons_of(source.group(number), stage)
            found.append(lessons[number % len(lessons)])
        return found

    def _save(self) -> None:
        state: dict[str, Any] = {
            "learned": {name: parameter.detach().cpu() for name, parameter in self._learned.items()},
            "optimiser": self._optimiser.state_dict(),
            "done": self._done,
        }
        fresh = self._checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self._checkpoint)

    @torch.no_grad()
    def _load(self) -> None:
        state = torch.load(self._checkpoint, weights_only=True)
        for name, kept in state["learned"].items():
            self._learned[name].copy_(kept)
        self._optimiser.load_state_dict(state["optimiser"])
        self._done = dict(state["done"])
