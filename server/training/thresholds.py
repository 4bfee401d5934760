"""Where the measured critic's thresholds should lie, from clean edits alone.

``python -m editcritic.server.training.thresholds --images DIR ...`` judges one clean control for each photograph
and prints, for every figure, the factor by which its threshold in `evidence/calibration.py` would have to change
for one clean control in `--one-in` to exceed it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.evidence.families import measure
from editcritic.server.critics.evidence.scene import prepare_scene
from editcritic.server.training.evaluation import Job, build_case, list_jobs
from editcritic.v1 import critic_pb2 as pb

__all__ = ["clean_strengths", "main", "threshold_factors"]

Strengths = Mapping[str, Sequence[float]]


def clean_strengths(job: Job) -> dict[str, float]:
    """Strength of every finding on one clean control, by kind and decisive figure; 1 is at the threshold."""
    case = build_case(job)
    edit = DecodedEdit(job.photo.stem, case.source, case.mask)
    findings = measure(prepare_scene(edit), edit, case.candidate, lambda: False)
    return {
        f"{pb.DefectKind.Name(each.kind)}/{each.evidence[0].name if each.evidence else ''}": each.strength
        for each in findings
    }


def threshold_factors(strengths: Strengths, photographs: int, one_in: float) -> dict[str, float]:
    """By what each threshold must be multiplied for one clean control in `one_in` to exceed it.

    Args:
        strengths: for each figure, its strengths; controls on which it was not decisive count as 0.
        photographs: controls in all.
        one_in: how rare an alarm should be.
    """
    factors = {}
    for name, values in strengths.items():
        padded = np.concatenate([np.asarray(values, float), np.zeros(photographs - len(values))])
        factors[name] = float(np.quantile(padded, 1.0 - 1.0 / one_in))
    return factors


def main(argv: Sequence[str] | None = None) -> None:
    """Print the factors as a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--split", default="")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--one-in", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    jobs = list_jobs(
        given.images, masks=given.masks, manifest=given.manifest, split=given.split, limit=given.limit
    )
    with ProcessPoolExecutor(given.workers) as pool:
        found = list(pool.map(clean_strengths, jobs, chunksize=4))
    strengths = _by_figure(found)
    factors = threshold_factors(strengths, len(jobs), given.one_in)
    for name, factor in sorted(factors.items()):
        alarms = float(np.mean(np.asarray(strengths[name]) > 1.0)) * len(strengths[name]) / len(jobs)
        print(f"{name:60s} factor {factor:6.3f}   over the threshold now {100 * alarms:5.2f} %")
    flagged = np.mean([max(each.values(), default=0.0) >= 1.0 for each in found])
    print(f"{len(jobs)} clean controls, flagged {100 * flagged:.1f} %")


def _by_figure(found: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    strengths: dict[str, list[float]] = defaultdict(list)
    for each in found:
        for name, value in each.items():
            strengths[name].append(value)
    return strengths


if __name__ == "__main__":
    main()
