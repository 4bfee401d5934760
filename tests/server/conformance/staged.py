"""A critic that a test directs from outside its process, by files; it may run anywhere on this machine."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from editcritic.server.critics import CRITICS
from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.dummy import DummyCritic
from editcritic.v1 import critic_pb2 as pb

STAGE_VARIABLE = "EDITCRITIC_TESTS_STAGE"
_PATIENCE_S = 30


def register() -> None:
    """Put the critic into the registry of this process."""
    CRITICS["staged"] = f"{__name__}:StagedCritic"


class Stage:
    """What a test and the critic tell each other: the curtain is down, who was asked, whether the work was cancelled.

    Args:
        folder: the same in all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def clear(self) -> None:
        """As at the start: nobody was asked, and the curtain is up."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def close(self) -> None:
        """Whatever is judged from now on waits."""
        (self._folder / "closed").touch()

    def open(self) -> None:
        """Let all go on."""
        (self._folder / "closed").unlink(missing_ok=True)

    def note(self, names: Sequence[str]) -> None:
        with (self._folder / "asked").open("a") as file:
            file.writelines(f"{name}\n" for name in names)

    @property
    def asked(self) -> list[str]:
        """Candidates in the order in which the critic was asked, previews with their progress."""
        file = self._folder / "asked"
        return file.read_text().split() if file.exists() else []

    @property
    def is_closed(self) -> bool:
        return (self._folder / "closed").exists()

    def note_cancelled(self) -> None:
        (self._folder / "cancelled").touch()

    def was_cancelled(self) -> bool:
        return (self._folder / "cancelled").exists()


class StagedCritic(DummyCritic):
    """Scores as the dummy does, waits while the curtain is down, and fails as the prompt says."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = Stage(Path(os.environ[STAGE_VARIABLE]))

    @property
    def info(self) -> pb.CriticInfo:
        told = super().info
        told.identity.name = "staged"
        return told

    def prepare(self, edit: DecodedEdit) -> None:
        if edit.prompt == "fail to prepare":
            raise KeyError("secret path /home/user")

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        self._stage.note([_name(task) for task in tasks])
        patience = time.monotonic() + _PATIENCE_S
        while self._stage.is_closed and time.monotonic() < patience:
            if is_cancelled():
                self._stage.note_cancelled()
                break
            time.sleep(0.005)
        return self._faulty(tasks[0].edit.prompt, super().critique(tasks, is_cancelled))

    def _faulty(self, how: str, outcomes: list[Any]) -> list[Outcome]:
        if how == "die":
            os._exit(1)
        if how == "raise" and any(outcome.scores.overall.value < 10 for outcome in outcomes):
            raise ZeroDivisionError("secret path /home/user/model.bin")
        if how == "no memory":
            raise MemoryError
        if how == "miscount":
            return outcomes[1:]
        for outcome in outcomes:
            if how in _UNSOUND:
                outcome.scores.harmony.value = _UNSOUND[how]
        return outcomes


_UNSOUND = {"no number": math.nan, "too high": 250.0}


def _name(task: CritiqueTask) -> str:
    name, progress = task.candidate.candidate_id, task.candidate.progress
    return f"{name}@{progress.fraction:g}" if progress else name
