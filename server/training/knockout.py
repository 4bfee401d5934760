"""What each part of the network is worth: the same trained network, asked again with one part silent.

Nothing is trained again, so a part that others could replace in time looks more needed than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.figures import FAMILIES, FIGURES
from editcritic.server.critics.network.marks import MARKS
from editcritic.server.critics.network.model import KINDS, SCORES, EditNetwork
from editcritic.server.critics.network.runner import Look, NetworkRunner
from editcritic.server.critics.network.view import look_at, view_edit
from editcritic.server.training.defects import INJECTIONS, inject
from editcritic.server.training.evaluation import Job, build_case

__all__ = ["PARTS", "PartReport", "measure_parts"]

_SEVERITIES = (0.3, 0.6, 1.0)
_VISUAL = SCORES.index("visual_quality")
_MARKED = range(FAMILIES - len(MARKS), FAMILIES)

Hook = tuple[str, Callable[..., Any], bool]
"""Module by name, what happens there, and whether before it runs."""


def _nothing(_module: nn.Module, _given: Any, answer: Tensor) -> Tensor:
    return torch.zeros_like(answer)


def _as_it_came(_module: nn.Module, given: tuple[Tensor, ...], _answer: Tensor) -> Tensor:
    return given[0]


def _without_families(families: Sequence[int]) -> list[Hook]:
    """Dense planes, tokens and raw figures of these families are zero."""

    def dense(_module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        kept = given[0].unflatten(1, (-1, FAMILIES)).clone()  # type: ignore[no-untyped-call]
        kept[:, :, list(families)] = 0
        return (kept.flatten(1, 2),)

    def raw(_module: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        visual = given[1].clone()
        figures = visual[:, -FAMILIES * FIGURES :].view(-1, FAMILIES, FIGURES)
        figures[:, list(families)] = 0
        return given[0], visual

    tokens: list[Hook] = [(f"figures.{family}", _nothing, False) for family in families]
    return [("encoder.measured", dense, True), ("fusion", raw, True), *tokens]


def _without_peaks(_module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    return (torch.cat([given[0][:, : -len(KINDS)], torch.zeros_like(given[0][:, -len(KINDS) :])], 1),)


PARTS: Mapping[str, list[Hook]] = {
    "nothing": [],
    "measured evidence": _without_families(range(FAMILIES)),
    "marks": _without_families(_MARKED),
    "self-similarity": [("encoder.repeats", _as_it_came, False)],
    "whole view": [("whole", _nothing, False)],
    "region tokens": [("regions", _nothing, False)],
    "quality queries": [("queries", _nothing, False)],
    "gate": [("fusion.gate", _nothing, False)],
    "maps for the kinds": [("kind", _without_peaks, True)],
}
"""By name, what silences it."""


@dataclass(frozen=True)
class PartReport:
    """The network without one part.

    Attributes:
        order: share of pairs of the same edit, a perfect and a faulty answer or two severities, that visual
            quality puts in order.
        found: area under the ROC curve of visual quality, perfect against faulty answers of all edits.
        named: the same of the right kind's presence.
    """

    order: float
    found: float
    named: float


def measure_parts(
    network: EditNetwork,
    jobs: Sequence[Job],
    told: Callable[[int, int], None] | None = None,
    names: Sequence[str] = tuple(INJECTIONS),
) -> dict[str, PartReport]:
    """Judge perfect answers and faults (`names`) at three severities, once for each silenced part."""
    runner = NetworkRunner(network)
    answers: dict[str, list[_Answer]] = {part: [] for part in PARTS}
    for number, job in enumerate(jobs):
        for name, severity, look in _looks(job, names):
            for part, hooks in PARTS.items():
                with _silenced(network, hooks):
                    output = runner(look)
                answers[part].append(
                    _Answer(
                        number,
                        name,
                        severity,
                        float(output.mean[0, _VISUAL]),
                        output.kinds[0].cpu().numpy(),
                    )
                )
        if told is not None:
            told(number + 1, len(jobs))
    return {part: _report(seen) for part, seen in answers.items()}


@dataclass(frozen=True, eq=False)
class _Answer:
    edit: int
    injected: str
    severity: float
    quality: float
    kinds: NDArray[np.floating]


def _looks(job: Job, names: Sequence[str]) -> Iterator[tuple[str, float, Look]]:
    case = build_case(job)
    view = view_edit(DecodedEdit("knockout", case.source, case.mask))
    yield "", 0.0, Look(view, *look_at(view, case.candidate))
    for name in names:
        if INJECTIONS[name].applies(case) and inject(case, name, max(_SEVERITIES), job.seed).visible:
            for severity in _SEVERITIES:
                spoiled = inject(case, name, severity, job.seed)
                yield name, severity, Look(view, *look_at(view, spoiled.candidate))


@contextmanager
def _silenced(network: EditNetwork, hooks: Sequence[Hook]) -> Iterator[None]:
    modules = dict(network.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(act) if before else modules[name].register_forward_hook(act)
        for name, act, before in hooks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _report(seen: Sequence[_Answer]) -> PartReport:
    clean = [each for each in seen if not each.injected]
    faulty = [each for each in seen if each.injected]
    ordered = [
        better.quality > worse.quality
        for better in seen
        for worse in faulty
        if better.edit == worse.edit
        and better.severity < worse.severity
        and better.injected in ("", worse.injected)
    ]
    kinds = [
        _area(
            [each.kinds[KINDS.index(injection.kinds[0])] for each in faulty if each.injected == name],
            [each.kinds[KINDS.index(injection.kinds[0])] for each in clean],
        )
        for name, injection in INJECTIONS.items()
        if any(each.injected == name for each in faulty)
    ]
    found = _area([-each.quality for each in faulty], [-each.quality for each in clean])
    return PartReport(float(np.mean(ordered)), found, float(np.mean(kinds)))


def _area(higher: Sequence[float], lower: Sequence[float]) -> float:
    return float((np.asarray(higher)[:, None] > np.asarray(lower)[None]).mean())
