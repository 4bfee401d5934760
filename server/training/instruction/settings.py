"""Settings of instruction tuning, as files: two for GPUs, one that runs anywhere."""

from __future__ import annotations

import configparser
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from editcritic.server.training.instruction.lessons import STAGES
from editcritic.v1.errors import InvalidInput

__all__ = ["TuningSettings", "read_settings"]

_FOLDER = Path(__file__).parent
_SHIPPED = MappingProxyType({file.stem: file for file in sorted(_FOLDER.glob("*.ini"))})


@dataclass(frozen=True)
class TuningSettings:
    """How a model is tuned.

    Attributes:
        rank, alpha, dropout: of the low-rank adapters (LoRA, Hu et al. 2021).
        targets: names of the linear layers that get one.
        bits: 4 to load the frozen weights quantised (QLoRA, Dettmers et al. 2023); 0 for as they are.
        rate: highest learning rate.
        accumulate: lessons before each step.
        side: of the windows that groups are drawn at, in pixels; a multiple of 32.
        grounding, scoring, explanation: steps of each stage.
    """

    rank: int
    alpha: int
    dropout: float
    targets: tuple[str, ...]
    bits: int
    rate: float
    accumulate: int
    side: int
    grounding: int
    scoring: int
    explanation: int

    def steps(self, stage: str) -> int:
        """Steps of a stage."""
        return int(getattr(self, stage))


def read_settings(name: str) -> TuningSettings:
    """A shipped file by name, or a file of one's own.

    Raises:
        InvalidInput: there is no such file, or it lacks or misspells a setting.
    """
    file = _SHIPPED.get(name, Path(name))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(file.read_text(encoding="utf-8"))
        told = dict(parser["tuning"])
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        shipped = ", ".join(_SHIPPED)
        raise InvalidInput(f"{name} is no file of settings: {error}; shipped are {shipped}") from error
    wanted = {field.name for field in fields(TuningSettings)}
    if set(told) != wanted:
        wrong = ", ".join(sorted(wanted ^ set(told)))
        raise InvalidInput(f"{file.name} lacks settings or has others: {wrong}")
    targets = tuple(target.strip() for target in told.pop("targets").split(","))
    try:
        rate, dropout = (float(told.pop(name)) for name in ("rate", "dropout"))
        whole = {name: int(each) for name, each in told.items()}
        settings = TuningSettings(targets=targets, rate=rate, dropout=dropout, **whole)
    except ValueError as error:
        raise InvalidInput(f"{file.name}: {error}") from error
    if settings.side % 32 or settings.bits not in (0, 4) or settings.accumulate < 1:
        raise InvalidInput(f"{file.name}: side is a multiple of 32, bits 0 or 4, accumulate at least 1")
    if any(settings.steps(stage) < 0 for stage in STAGES):
        raise InvalidInput(f"{file.name}: steps are 0 or more")
    return settings
