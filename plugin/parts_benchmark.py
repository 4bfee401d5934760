"""What the repairs of an edit's parts are worth: in two passes, one for each part, or in one that does both.

``python -m editcritic.plugin.parts_benchmark --images DIR --count 40 --out FILE`` writes what became of each case.

An answer of the engine gets a grave fault in one part and a mild one in another; between them it stays as it is. The
critic that steers sees where, the other one judges what is handed back.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.engine_answers import tabletop_prompts
from editcritic.refine.acceptance import both_agree, scored
from editcritic.refine.engine import Engine, load_engine
from editcritic.refine.quality_map import fault_map, quality_parts
from editcritic.refine.repair import REPAIRS, Workpiece, carry_out
from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.training.defects import EditCase, inject, soften
from editcritic.server.training.evaluation import Job, build_case, list_jobs
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError
from editcritic.v1.images import decode_image

__all__ = ["ROUTES", "Outcome", "main", "measure_parts", "part_rows", "spoiled_parts"]

Pixels = NDArray[np.uint8]
Critiques = dict[str, pb.Critique]

ROUTES: Mapping[str, tuple[pb.ActionKind.ValueType, ...]] = MappingProxyType(
    {
        "two passes": (pb.ACTION_KIND_REINPAINT_MEDIUM_QUALITY, pb.ACTION_KIND_REDRAW_LOW_QUALITY),
        "one pass": (pb.ACTION_KIND_REINPAINT_BY_QUALITY,),
    }
)
"""Repairs by the name of their route, in the order in which they are tried."""

_STEERS, _HELD_OUT = "network", "evidence"
_GRAVE = ("melt", "foreign", "repeat", "flat", "warp")
_MILD = ("melt", "warp", "blur", "noise", "resolution")
_PART_SHARE = 0.3
_RIM_PX = 1.5
_RISE = 0.05  # points of the overall score: less is no change


@dataclass(frozen=True)
class Outcome:
    """What a route made of one case.

    photo: its name. route: of `ROUTES`. guarded: whether each pass was kept or rolled back as in the loop.
    before, after: overall scores by critic. steps: denoising steps. kept: passes that were.
    """

    photo: str
    route: str
    guarded: bool
    before: dict[str, float]
    after: dict[str, float]
    steps: int
    kept: int


def measure_parts(
    engine: Engine,
    jobs: Sequence[Job],
    *,
    seed: int = 0,
    told: Callable[[int], object] = lambda _done: None,
) -> Iterator[Outcome]:
    """Spoil and mend one answer of the engine to an edit of each photograph; cases in which the critic does not see a
    part of low, one of medium and one of high quality are left out."""
    judges = {name: load_critic(name) for name in (_STEERS, _HELD_OUT)}
    prompts = tabletop_prompts(len(jobs), seed)
    for number, (job, prompt) in enumerate(zip(jobs, prompts, strict=True)):
        told(number)
        case = spoiled_parts(build_case(job), engine, prompt, job.seed)
        bench = _Bench(engine, case, prompt, judges, job.seed)
        if bench.has_both_parts:
            yield from (
                bench.outcome(job.photo.stem, route, guarded) for route in ROUTES for guarded in (False, True)
            )


def spoiled_parts(edit: EditCase, engine: Engine, prompt: str, seed: int) -> EditCase:
    """The engine's answer with a grave fault on one side of the mask, and a mild one on the opposite side."""
    rng = np.random.default_rng(seed + 5)
    mask = edit.mask
    answer = engine.candidate(edit.source, mask, prompt, seed=seed % 1000, blend_mask=mask).result()
    case = replace(edit, candidate=answer, clean=answer)
    for side, faults, severity in zip(_sides(mask, rng), (_GRAVE, _MILD), (0.9, 0.4), strict=True):
        part = replace(case, mask=soften(side, _RIM_PX) * mask, clean=case.candidate)
        name = str(rng.choice(faults))
        case = replace(case, candidate=inject(part, name, severity, seed + 7).candidate)
    return case


def _sides(mask: NDArray[np.float32], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Two opposite ends of a mask, each a third of it."""
    rows, columns = np.indices(mask.shape)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    low, high = np.quantile(along[mask > 0.5], (_PART_SHARE, 1 - _PART_SHARE))
    return [(mask * (along <= low)).astype(np.float32), (mask * (along >= high)).astype(np.float32)]


class _Bench:
    """One case, with its judges."""

    def __init__(
        self, engine: Engine, case: EditCase, prompt: str, judges: Mapping[str, Any], seed: int
    ) -> None:
        self._engine, self._case, self._prompt, self._seed = engine, case, prompt, seed
        self._edit = DecodedEdit("edit", case.source, case.mask)
        self._judges = {name: (judge, judge.prepare(self._edit)) for name, judge in judges.items()}
        self._before = self._judged(case.candidate)
        self._done: dict[tuple[bytes, int], tuple[Pixels, int, Critiques]] = {}

    @property
    def has_both_parts(self) -> bool:
        """Whether there is something for each pass to do, and something to keep; and scores to compare."""
        found = fault_map(self._before[_STEERS], self._case.mask.shape)
        parts = quality_parts(found, self._case.mask)
        are_scored = all(scored(each) for each in self._before.values())
        return are_scored and all(part.any() for part in (parts.low, parts.medium, parts.high))

    def outcome(self, photo: str, route: str, guarded: bool) -> Outcome:
        """Mend it by one route."""
        picture, seen, steps, kept = self._case.candidate, self._before, 0, 0
        for kind in ROUTES[route]:
            after, cost, judged = self._tried(picture, seen, kind)
            steps += cost
            verdict = both_agree(*((seen[name], judged[name]) for name in (_STEERS, _HELD_OUT)))
            if cost and (verdict.keep or not guarded):
                picture, seen, kept = after, judged, kept + 1
        return Outcome(photo, route, guarded, _overall(self._before), _overall(seen), steps, kept)

    def _tried(
        self, picture: Pixels, seen: Critiques, kind: pb.ActionKind.ValueType
    ) -> tuple[Pixels, int, Critiques]:
        """A pass with what it takes and what is said of it; the same pass is made once."""
        key = (picture.tobytes(), kind)
        if key not in self._done:
            after, cost = self._mended(picture, seen[_STEERS], kind)
            self._done[key] = after, cost, self._judged(after) if cost else seen
        return self._done[key]

    def _mended(
        self, picture: Pixels, critique: pb.Critique, kind: pb.ActionKind.ValueType
    ) -> tuple[Pixels, int]:
        case = self._case
        work = Workpiece(
            self._engine,
            case.source,
            picture,
            case.mask,
            case.mask,
            self._prompt,
            seed=self._seed % 1000 + 1,
            attempt=0,
            critique=critique,
        )
        repair = REPAIRS[kind](work, pb.SuggestedAction(kind=kind))
        if repair is None:
            return picture, 0
        done = carry_out(repair, "mended", case.source, case.mask)
        return decode_image(done.image), done.evaluation_count

    def _judged(self, picture: Pixels) -> Critiques:
        options = pb.CritiqueOptions(heat_map=True)
        found: Critiques = {}
        for name, (judge, prepared) in self._judges.items():
            task = CritiqueTask(self._edit, prepared, DecodedCandidate("candidate", picture), options)
            outcome = judge.critique([task], lambda: False)[0]
            if isinstance(outcome, EditCriticError):
                raise outcome
            found[name] = outcome
        return found


def _overall(critiques: Critiques) -> dict[str, float]:
    return {name: float(each.scores.overall.value) for name, each in critiques.items()}


def part_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row for each route, guarded or not, and critic: cases, share that rose, mean gain and its standard error,
    denoising steps."""
    groups: dict[tuple[str, bool, str], list[Outcome]] = {}
    for each in outcomes:
        for critic in each.before:
            groups.setdefault((each.route, each.guarded, critic), []).append(each)
    return [_row(*key, group) for key, group in groups.items()]


def _row(route: str, guarded: bool, critic: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    gains = np.array([each.after[critic] - each.before[critic] for each in outcomes])
    return {
        "route": route,
        "guarded": guarded,
        "critic": critic,
        "cases": len(gains),
        "rises": float(np.mean(gains > _RISE)),
        "gain": float(gains.mean()),
        "error": float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else 0.0,
        "steps": float(np.mean([each.steps for each in outcomes])),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure from the command line; what is done is in the file after every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs (.jpg, .png)")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    jobs, outcomes = list_jobs(given.images, limit=given.count, seed=given.seed), []
    engine = load_engine("tabletop", device="cpu")
    for each in measure_parts(engine, jobs, seed=given.seed, told=lambda done: print(done, flush=True)):
        outcomes.append(each)
        given.out.write_text(json.dumps([asdict(one) for one in outcomes], indent=1) + "\n", encoding="utf-8")
    for row in part_rows(outcomes):
        print(row)


if __name__ == "__main__":
    main()
