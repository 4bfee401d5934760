"""How well a critic does on edits whose faults are known: false alarms, order, detection, places.

For every photograph one edit is made, with a mask of its own (an object's, a box, an ellipse, a stroke; hard
or soft), judged once as a clean control and once for each injection at three severities; four more masks make
further clean controls, because false alarms are rare. *Flagged* means: the
critique names at least one defect; *rightly flagged*: one of the injection's own kinds.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.training.defects import INJECTIONS, EditCase, clean_control, draw_mask, inject, soften
from editcritic.server.training.report import EvaluationReport, Observation, summarise_observations
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput, ServerFault
from editcritic.v1.images import decode_file, decode_mask_file

__all__ = [
    "CLEAN_MASKS",
    "SEVERITIES",
    "EvaluationReport",
    "Job",
    "build_case",
    "evaluate",
    "jobs_of",
    "list_jobs",
    "list_photographs",
    "observe",
    "observe_all",
]

SEVERITIES = (0.3, 0.6, 1.0)
"""Mild, medium, severe."""
RIM_RADII_PX = (0.0, 0.0, 1.0, 2.0)
"""Half of the masks are hard; two pixels on photographs of 256 px are a feather of eight on one of 1024."""
OBJECT_MASK_SHARE = 0.5
CLEAN_MASKS = 5
"""Clean controls of each photograph."""
WORKERS = 2
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """One photograph to make an edit of.

    Attributes:
        photo: its file.
        donor: another photograph, which lends what is to be removed.
        masks: files of object masks; may be empty.
        seed: decides everything else.
        object_mask_share: how often one of the object masks is taken, where there are any.
    """

    photo: Path
    donor: Path
    masks: tuple[Path, ...]
    seed: int
    object_mask_share: float = OBJECT_MASK_SHARE


def evaluate(
    critic: str,
    images: Path,
    *,
    masks: Path | None = None,
    manifest: Path | None = None,
    split: str = "",
    limit: int = 0,
    seed: int = 0,
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Judge clean controls and injected defects over a folder of photographs.

    Args:
        critic: name in the registry; every process builds its own.
        images: folder of photographs (PNG, JPEG, WebP).
        masks: folder of object masks, named `<photo>_<anything>.png`; None draws all masks.
        manifest: CSV with the columns `file` and `split`; only its files are used.
        split: which split of the manifest; empty for all.
        limit: most photographs; 0 for all.
        seed: other seeds give other masks, contents and faults.
        workers: processes.
        progress: called with (photographs done, photographs in all).

    Raises:
        InvalidInput: there are no photographs, or the manifest lacks its columns.
    """
    jobs = list_jobs(images, masks=masks, manifest=manifest, split=split, limit=limit, seed=seed)
    observations = observe_all(critic, jobs, workers, progress)
    return summarise_observations(critic, observations, photographs=len(jobs), seed=seed)


def observe_all(
    critic: str, jobs: Sequence[Job], workers: int = WORKERS, progress: Progress | None = None
) -> list[Observation]:
    """Judge all jobs, in order, in `workers` processes."""
    observations: list[Observation] = []
    for done, found in enumerate(_run(critic, jobs, workers), start=1):
        observations += found
        if progress is not None:
            progress(done, len(jobs))
    return observations


def list_jobs(
    images: Path,
    *,
    masks: Path | None = None,
    manifest: Path | None = None,
    split: str = "",
    limit: int = 0,
    seed: int = 0,
) -> list[Job]:
    """The photographs in a seeded order, each with donor, masks and seed; raises as `evaluate`."""
    return jobs_of(list_photographs(images, manifest, split), masks, seed, limit)


def jobs_of(photos: Sequence[Path], masks: Path | None, seed: int, limit: int = 0) -> list[Job]:
    """Jobs over these photographs in a seeded order, at most `limit` (0 for all)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(photos))[: limit or None]
    jobs = []
    for index in order:
        donor = photos[(int(index) + int(rng.integers(1, max(len(photos), 2)))) % len(photos)]
        photo = photos[int(index)]
        own = tuple(sorted(masks.glob(f"{photo.stem}_*.png"))) if masks else ()
        jobs.append(Job(photo, donor, own, int(rng.integers(2**31))))
    return jobs


def build_case(job: Job) -> EditCase:
    """The clean control of a job; raises ImageError for a file that cannot be read."""
    rng = np.random.default_rng(job.seed)
    photo, donor = decode_file(job.photo.read_bytes()), decode_file(job.donor.read_bytes())
    mask = draw_mask((photo.shape[0], photo.shape[1]), job.seed)
    if job.masks and rng.random() < job.object_mask_share:
        drawn = decode_mask_file(job.masks[int(rng.integers(len(job.masks)))].read_bytes())
        mask = (drawn > 0.5).astype(np.float32) if drawn.shape == mask.shape else mask
    radius = float(rng.choice(RIM_RADII_PX))
    return clean_control(photo, donor, soften(mask, radius), job.seed)


def observe(critic: Critic, job: Job) -> list[Observation]:
    """Judge one photograph's controls and all its injections."""
    case = build_case(job)
    edit = DecodedEdit(job.photo.stem, case.source, case.mask)
    prepared = critic.prepare(edit)
    found = [_judge(critic, edit, prepared, case)]
    for name, injection in INJECTIONS.items():
        if injection.applies(case) and inject(case, name, max(SEVERITIES), job.seed + 7).visible:
            for severity in SEVERITIES:
                spoiled = inject(case, name, severity, job.seed + 7)
                found.append(_judge(critic, edit, prepared, spoiled))
    for number in range(1, CLEAN_MASKS):
        other = build_case(replace(job, seed=job.seed + number))
        again = DecodedEdit(f"{job.photo.stem}, mask {number + 1}", other.source, other.mask)
        found.append(_judge(critic, again, critic.prepare(again), other))
    return found


def _judge(critic: Critic, edit: DecodedEdit, prepared: object, case: EditCase) -> Observation:
    candidate = DecodedCandidate(candidate_id=case.injected or "clean", image=case.candidate)
    options = pb.CritiqueOptions(heat_map=bool(case.injected), max_defect_count=64)
    outcome = critic.critique([CritiqueTask(edit, prepared, candidate, options)], lambda: False)[0]
    if isinstance(outcome, ServerFault):
        # One answer that cannot be read must not cost the others; the report tells how many there were.
        scores = {field.name: None for field in pb.Scores.DESCRIPTOR.fields}
        return Observation(edit.edit_id, case.injected, case.severity, scores, {}, failed=True)
    if isinstance(outcome, EditCriticError):
        raise outcome
    return Observation(
        photo=edit.edit_id,
        injected=case.injected,
        severity=case.severity,
        scores={
            name.name: _value(getattr(outcome.scores, name.name)) for name in pb.Scores.DESCRIPTOR.fields
        },
        spreads={
            name.name: _value(getattr(outcome.scores, name.name), "stddev")
            for name in pb.Scores.DESCRIPTOR.fields
        },
        defects={int(defect.kind): defect.severity for defect in outcome.defects},
        heat_inside=_heat_inside(outcome, case) if case.injected else None,
        map_fit=_map_fit(outcome, case) if case.injected else None,
    )


def _value(score: pb.Score, part: str = "value") -> float | None:
    return float(getattr(score, part)) if score.status == pb.SCORE_STATUS_SCORED else None


def _map_fit(critique: pb.Critique, case: EditCase) -> tuple[float, float] | None:
    """IoU of the right kind's map at half of its peak with the injured place, and the area under its ROC curve.

    None where the right kind is not named.
    """
    maps = [heat for heat in critique.heat_maps if heat.kind in INJECTIONS[case.injected].kinds]
    if not maps:
        return None
    region = maps[0].region
    truth = case.injured[region.y : region.y + region.height, region.x : region.x + region.width]
    small = _decode_map(maps[0])
    heat = cv2.resize(small, (truth.shape[1], truth.shape[0]), interpolation=cv2.INTER_LINEAR)
    seen = heat >= 0.5 * max(float(heat.max()), 1e-6)
    joined = int((seen | truth).sum())
    return float((seen & truth).sum()) / max(joined, 1), _roc_area(heat[::2, ::2], truth[::2, ::2])


def _roc_area(heat: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    positive = int(truth.sum())
    if positive in (0, truth.size):
        return 1.0
    ranks = rankdata(heat.ravel())
    over = float(ranks[truth.ravel()].sum()) - positive * (positive + 1) / 2
    return over / (positive * (truth.size - positive))


def _heat_inside(critique: pb.Critique, case: EditCase) -> tuple[float, float] | None:
    """Share of the right kinds' heat in the injured part, and that part's share of the map; None without heat."""
    injection = INJECTIONS[case.injected]
    maps = [heat for heat in critique.heat_maps if heat.kind in injection.kinds]
    if not injection.local or not maps:
        return None
    region = maps[0].region
    part = case.injured[region.y : region.y + region.height, region.x : region.x + region.width]
    # A few pixels around the fault are still the right place.
    wide = cv2.dilate(part.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.float32)
    heat = _decode_map(maps[0])
    truth = cv2.resize(wide, (heat.shape[1], heat.shape[0]), interpolation=cv2.INTER_AREA)
    if heat.sum() <= 0 or truth.sum() <= 0:
        return None
    return float((heat * truth).sum() / heat.sum()), float(truth.mean())


def _decode_map(heat: pb.HeatMap) -> NDArray[np.float32]:
    return decode_mask_file(heat.image.encoded.data)


def list_photographs(images: Path, manifest: Path | None = None, split: str = "") -> list[Path]:
    """Photographs of a folder, or those of a manifest's split, by name.

    Raises:
        InvalidInput: there are none, or the manifest lacks its columns.
    """
    found = _photos(images, manifest, split)
    if not found:
        raise InvalidInput(
            f"no photographs (PNG, JPEG, WebP) in {images}{f' of split {split!r}' if split else ''}"
        )
    return found


def _photos(images: Path, manifest: Path | None, split: str) -> list[Path]:
    if manifest is None:
        return sorted(path for path in images.iterdir() if path.suffix.lower() in _SUFFIXES)
    rows = list(csv.DictReader(io.StringIO(manifest.read_text(encoding="utf-8"))))
    if rows and not {"file", "split"} <= rows[0].keys():
        raise InvalidInput(f"{manifest} needs the columns file and split; it has {', '.join(rows[0])}")
    named = [images / row["file"] for row in rows if not split or row["split"] == split]
    return sorted(path for path in named if path.is_file())


_worker_critics: dict[str, Critic] = {}


def _observe_in_worker(critic: str, job: Job) -> list[Observation]:
    if critic not in _worker_critics:
        cv2.setNumThreads(1)
        _worker_critics[critic] = load_critic(critic)
        if "torch" in sys.modules:
            # Every worker has a core of its own; more threads would only wait for one another.
            sys.modules["torch"].set_num_threads(1)
    return observe(_worker_critics[critic], job)


def _run(critic: str, jobs: Sequence[Job], workers: int) -> Iterator[list[Observation]]:
    """Observations of each job, in order, whatever the number of processes."""
    if workers <= 1:
        built = load_critic(critic)
        yield from (observe(built, job) for job in jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_observe_in_worker, [critic] * len(jobs), jobs)
