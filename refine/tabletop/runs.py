"""What the training stages share: options, the clock, the learning rate, checkpoints, progress."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Clock", "Options", "learning_rate", "report", "restore", "save", "take_step"]


@dataclass(frozen=True)
class Options:
    """What a run needs.

    images: folder of photographs. out: checkpoints, progress and the pipeline go here. stage: decoder, denoiser,
    export or all. minutes: planned training time of a stage. batch: scenes per step. rate: peak learning rate.
    seed: names scenes, noise and initial weights. pool: encoded scenes held at once. device: "cpu" or "cuda".
    compiled: run the U-Net through torch.compile.
    """

    images: Path
    out: Path
    stage: str
    minutes: float
    batch: int
    rate: float
    seed: int
    pool: int
    device: str
    compiled: bool

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.out / "checkpoints"


class Clock:
    """Trained seconds of a stage, over all its runs.

    before: seconds of earlier runs. minutes: planned for all runs together. interval: seconds between two checkpoints.
    """

    def __init__(self, before: float, minutes: float, interval: float) -> None:
        self._before, self._start, self._planned = before, time.monotonic(), minutes * 60
        self._interval, self._saved = interval, self._start

    @property
    def seconds(self) -> float:
        """Trained so far."""
        return self._before + time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """Share of the planned time in [0, 1]."""
        return min(1.0, self.seconds / self._planned)

    def save_is_due(self) -> bool:
        """True once per interval, and at the end."""
        due = self.progress >= 1 or time.monotonic() - self._saved > self._interval
        if due:
            self._saved = time.monotonic()
        return due


def learning_rate(progress: float, peak: float) -> float:
    """Warm-up over 2 %, constant, then straight down to 2 % of the peak over the last 45 %. progress in [0, 1]."""
    if progress < 0.02:
        return peak * max(progress, 1e-4) / 0.02
    return peak * min(1.0, max(0.02, (1 - progress) / 0.45))


def take_step(optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One optimiser step at learning rate `rate`, gradients clipped to norm 1."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 1.0)
    optimiser.step()


def restore(path: Path) -> dict[str, Any]:
    """A checkpoint, or one that says that nothing was trained yet. Tensors and plain values only, never code."""
    fresh: dict[str, Any] = {"seconds": 0.0, "step": 0}
    return torch.load(path, weights_only=True) if path.exists() else fresh


def save(path: Path, state: dict[str, Any]) -> None:
    """Write next to the target and rename, so that a kill never leaves half a checkpoint."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    partial.replace(path)


def report(out: Path, **facts: float | str) -> None:
    """One JSON line of progress, printed and appended to `progress.jsonl`."""
    line = json.dumps(
        {key: round(fact, 5) if isinstance(fact, float) else fact for key, fact in facts.items()}
    )
    print(line, flush=True)
    with (out / "progress.jsonl").open("a") as log:
        log.write(line + "\n")
