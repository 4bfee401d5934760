"""What repairs without diffusion are worth: a fault put into a perfect answer, mended, and judged by another critic.

A critic that named the fault is no judge of its repair: it may be pleased by what it measures alone. So each critic's
view of the gain stands beside what it says of the cases in which the *other* one would have asked for the repair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.diagnose import plan_actions
from editcritic.refine.engine import load_engine
from editcritic.refine.repair import REPAIRS, Workpiece
from editcritic.server.critics import load_critic
from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.training.defects import INJECTIONS, EditCase, inject
from editcritic.server.training.evaluation import build_case, list_jobs
from editcritic.server.training.report import wilson
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["OWN_FAULTS", "Trial", "measure_repairs", "repair_rows"]

Pixels = NDArray[np.uint8]

OWN_FAULTS: Mapping[pb.ActionKind.ValueType, tuple[str, ...]] = MappingProxyType(
    {
        pb.ACTION_KIND_RECOMPOSITE: ("outside_changed",),
        pb.ACTION_KIND_RECOLOUR: ("colour_shift", "tone_shift"),
        pb.ACTION_KIND_RELIGHT: ("exposure", "light_gradient"),
        pb.ACTION_KIND_BLEND: ("tone_shift", "exposure", "light_gradient"),
        pb.ACTION_KIND_BLEND_GRADIENTS: ("colour_shift", "tone_shift", "light_gradient"),
        pb.ACTION_KIND_DEFRINGE: ("seam",),
        pb.ACTION_KIND_MATCH_DETAIL: ("blur", "resolution", "sharpen", "noise"),
        pb.ACTION_KIND_DENOISE: ("noise",),
        pb.ACTION_KIND_DEBLOCK: ("jpeg_blocks",),
        pb.ACTION_KIND_DEBAND: ("banding",),
        pb.ACTION_KIND_UNGHOST: ("leftover",),
    }
)
"""Each repair without diffusion and the injected faults that it is for."""

_SEVERITIES = (0.2, 1.0)
_RISE, _HARM = 0.05, -1.0  # points of the overall score: less than the first is no change


@dataclass(frozen=True)
class Trial:
    """One repair of one fault. gains: by critic, change of its overall score; called: critics that would have asked for
    the repair; before, perfect: by critic, overall score of the faulty and of the perfect answer."""

    repair: pb.ActionKind.ValueType
    fault: str
    gains: Mapping[str, float]
    before: Mapping[str, float]
    perfect: Mapping[str, float]
    called: frozenset[str]
    seconds: float


def measure_repairs(
    images: Path,
    *,
    count: int,
    masks: Path | None = None,
    manifest: Path | None = None,
    split: str = "",
    seed: int = 0,
    critics: Sequence[str] = ("network", "evidence"),
    progress: Callable[[str], object] = lambda _text: None,
) -> list[Trial]:
    """Spoil, mend and judge one edit of each of `count` photographs by every fault, at a random severity.

    images, masks, manifest, split: as in `editcritic eval`. critics: those that judge.
    Raises: InvalidInput when there are no photographs.
    """
    judges = {name: load_critic(name) for name in critics}
    jobs = list_jobs(images, masks=masks, manifest=manifest, split=split, limit=count, seed=seed)
    trials: list[Trial] = []
    for number, job in enumerate(jobs):
        progress(f"photograph {number + 1} of {len(jobs)}")
        trials += _trials(build_case(job), judges, job.seed)
    return trials


def repair_rows(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One row for each repair, fault and judging critic: shares and means, with the cases that others called for."""
    groups: dict[tuple[pb.ActionKind.ValueType, str, str], list[Trial]] = {}
    for trial in trials:
        for critic in trial.gains:
            groups.setdefault((trial.repair, trial.fault, critic), []).append(trial)
    return [_row(*key, group) for key, group in groups.items()]


def _row(repair: pb.ActionKind.ValueType, fault: str, critic: str, trials: Sequence[Trial]) -> dict[str, Any]:
    called = [trial for trial in trials if trial.called - {critic}]
    return {
        "repair": pb.ActionKind.Name(repair).removeprefix("ACTION_KIND_").lower(),
        "fault": fault,
        "judge": critic,
        "before": float(np.mean([trial.before[critic] for trial in trials])),
        "perfect": float(np.mean([trial.perfect[critic] for trial in trials])),
        "could_rise": float(np.mean([t.perfect[critic] - t.before[critic] > _RISE for t in trials])),
        "all": _shares([trial.gains[critic] for trial in trials]),
        "called_for": _shares([trial.gains[critic] for trial in called]),
        "ms": 1000 * float(np.median([trial.seconds for trial in trials])),
    }


def _shares(gains: Sequence[float]) -> dict[str, Any]:
    risen, harmed = sum(gain > _RISE for gain in gains), sum(gain < _HARM for gain in gains)
    return {
        "cases": len(gains),
        "rises": asdict(wilson(risen, len(gains))),
        "harmed": asdict(wilson(harmed, len(gains))),
        "gain": float(np.mean(gains)) if gains else 0.0,
    }


def _trials(clean: EditCase, judges: Mapping[str, Critic], seed: int) -> Iterator[Trial]:
    edit = DecodedEdit("edit", clean.source, clean.mask)
    bench = {name: (critic, critic.prepare(edit)) for name, critic in judges.items()}
    perfect = _overall(_judged(bench, edit, clean.clean))
    rng = np.random.default_rng(seed + 99)
    severities = {fault: float(rng.uniform(*_SEVERITIES)) for fault in INJECTIONS}
    for fault in dict.fromkeys(fault for faults in OWN_FAULTS.values() for fault in faults):
        spoiled = (
            inject(clean, fault, severities[fault], seed + 7) if INJECTIONS[fault].applies(clean) else clean
        )
        if not spoiled.visible:
            continue
        seen = _judged(bench, edit, spoiled.candidate)
        for repair in (kind for kind, faults in OWN_FAULTS.items() if fault in faults):
            picture, seconds = _mended(spoiled, repair, seed)
            after, before = _overall(_judged(bench, edit, picture)), _overall(seen)
            if before.keys() == after.keys() == perfect.keys() == bench.keys():
                gains = {name: after[name] - before[name] for name in bench}
                yield Trial(repair, fault, gains, before, perfect, _callers(seen, repair, clean), seconds)


def _mended(case: EditCase, repair: pb.ActionKind.ValueType, seed: int) -> tuple[Pixels, float]:
    work = Workpiece(
        load_engine("dummy"), case.source, case.candidate, case.mask, case.mask, "", seed=seed, attempt=0
    )
    began = time.perf_counter()
    done = REPAIRS[repair](work, pb.SuggestedAction(kind=repair))
    seconds = time.perf_counter() - began
    return (case.candidate if done is None or done.picture is None else done.picture), seconds


def _judged(
    bench: Mapping[str, tuple[Critic, Any]], edit: DecodedEdit, picture: Pixels
) -> dict[str, pb.Critique]:
    found = {}
    for name, (critic, prepared) in bench.items():
        task = CritiqueTask(edit, prepared, DecodedCandidate("candidate", picture))
        outcome = critic.critique([task], lambda: False)[0]
        if isinstance(outcome, EditCriticError):
            raise outcome
        found[name] = outcome
    return found


def _overall(critiques: Mapping[str, pb.Critique]) -> dict[str, float]:
    """Overall scores of the critics that gave one."""
    scored = pb.SCORE_STATUS_SCORED
    return {
        k: each.scores.overall.value for k, each in critiques.items() if each.scores.overall.status == scored
    }


def _callers(
    critiques: Mapping[str, pb.Critique], repair: pb.ActionKind.ValueType, case: EditCase
) -> frozenset[str]:
    area = int((case.mask > 0.5).sum())
    return frozenset(
        name
        for name, critique in critiques.items()
        if any(action.kind == repair for action in plan_actions(critique, area))
    )
