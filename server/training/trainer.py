"""The loop: batches of groups in, weights out; it can be stopped at any step and goes on from there.

A run is a folder: `checkpoint.pt` (weights, running average, optimiser, place in the stream), `log.csv` (one
line per report), `network.safetensors` at the end of every stage. The stream of groups depends on seed and
step alone, so a resumed run sees what an unbroken one would have seen.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from editcritic.server.critics.network.model import EditNetwork
from editcritic.server.training.batches import LabelledBatch, collate, to_input
from editcritic.server.training.pairs import Group, PairSource, Photographs
from editcritic.server.training.stages import Stage, stage_losses

__all__ = ["Report", "Trainer", "TrainingRun", "export_weights"]

_AVERAGE = 0.998
_WARM_STEPS = 60
_REPORT_STEPS = 20
_SAVE_STEPS = 100
_WEIGHT_DECAY = 0.02
_MAX_NORM = 5.0


@dataclass(frozen=True)
class Report:
    """Where training stands: stage, step of its steps, losses (mean since the last report), seconds per step."""

    stage: str
    step: int
    steps: int
    losses: Mapping[str, float]
    seconds_per_step: float

    @property
    def seconds_left(self) -> float:
        """Of this stage."""
        return (self.steps - self.step) * self.seconds_per_step


@dataclass(frozen=True)
class TrainingRun:
    """What a run needs.

    Attributes:
        photographs: to spoil.
        folder: of the run; created.
        seed: names weights and stream.
        device: "cpu" or "cuda".
        workers: processes that draw groups.
    """

    photographs: Photographs
    folder: Path
    seed: int = 0
    device: str = "cpu"
    workers: int = 1


class _Groups(Dataset[Group]):
    def __init__(self, source: PairSource, start: int, count: int) -> None:
        self._source, self._start, self._count = source, start, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Group:
        cv2.setNumThreads(1)
        return self._source.group(self._start + index)


class Trainer:
    """`Trainer(run).train(stage)` for each stage, in order; a stage that a checkpoint has passed is skipped.

    Args:
        run: data, folder, device.
        network: to go on with; a new one by default. A checkpoint in the folder goes before both.
    """

    def __init__(self, run: TrainingRun, network: EditNetwork | None = None) -> None:
        torch.manual_seed(run.seed)
        self._run = run
        self._device = torch.device(run.device)
        self.network = (network or EditNetwork()).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network)
        self._optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=_WEIGHT_DECAY)
        self._done: list[str] = []
        self._step = 0
        self._clock, self._sums = 0.0, dict[str, float]()
        run.folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._load()

    def train(self, stage: Stage, told: Callable[[Report], None] | None = None) -> None:
        """Carry out one stage, or the rest of it."""
        if stage.name in self._done:
            return
        for batch in self._batches(stage):
            self._one_step(stage, batch, told)
            if self._step % _SAVE_STEPS == 0:
                self._save()
        self._done.append(stage.name)
        self._step = 0
        self._save()
        export_weights(self.average, self._run.folder / "network.safetensors")

    @property
    def _checkpoint(self) -> Path:
        return self._run.folder / "checkpoint.pt"

    def _batches(self, stage: Stage) -> Iterator[LabelledBatch]:
        source = PairSource(self._run.photographs, stage.side, self._run.seed + 1000 * len(self._done))
        start, left = self._step * stage.groups, (stage.steps - self._step) * stage.groups
        loader = DataLoader(
            _Groups(source, start, left),
            batch_size=stage.groups,
            num_workers=self._run.workers,
            collate_fn=collate,
            prefetch_factor=4 if self._run.workers else None,
        )
        self._clock, self._sums = time.monotonic(), {}
        yield from loader

    def _one_step(self, stage: Stage, batch: LabelledBatch, told: Callable[[Report], None] | None) -> None:
        self.network.train()
        batch = batch.to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            output = self.network(to_input(batch))
        loss, parts = stage_losses(stage, output, batch)
        for group in self._optimiser.param_groups:
            group["lr"] = _rate(stage, self._step)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_NORM)
        self._optimiser.step()
        _follow(self.average, self.network)
        self._step += 1
        self._tell(stage, parts, told)

    def _tell(self, stage: Stage, parts: Mapping[str, float], told: Callable[[Report], None] | None) -> None:
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value / _REPORT_STEPS
        if self._step % _REPORT_STEPS:
            return
        seconds = (time.monotonic() - self._clock) / _REPORT_STEPS
        report = Report(stage.name, self._step, stage.steps, dict(self._sums), seconds)
        self._clock, self._sums = time.monotonic(), {}
        _log(self._run.folder / "log.csv", report)
        if told is not None:
            told(report)

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "done": self._done,
            "step": self._step,
        }
        fresh = self._checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        fresh.replace(self._checkpoint)

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self._checkpoint, map_location=self._device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._done, self._step = list(state["done"]), int(state["step"])


def export_weights(network: nn.Module, file: Path) -> None:
    """Write weights as float16 safetensors."""
    tensors = {
        name: tensor.detach().cpu().half().contiguous()
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()
    }
    save_file(tensors, file)


def _rate(stage: Stage, step: int) -> float:
    warm = min(1.0, (step + 1) / _WARM_STEPS)
    return stage.rate * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / stage.steps)))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module) -> None:
    """Running average of the weights; statistics of the batches are taken over as they are."""
    for kept, fresh in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(fresh, 1 - _AVERAGE)
        else:
            kept.copy_(fresh)


def _log(file: Path, report: Report) -> None:
    row = {
        "stage": report.stage,
        "step": report.step,
        "seconds_per_step": round(report.seconds_per_step, 4),
        **{
            name: round(report.losses.get(name, math.nan), 5)
            for name in ("triplet", "grounding", "ranking", "listwise", "score", "kinds", "maps")
        },
    }
    fresh = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
