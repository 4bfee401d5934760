"""The same tables for scores that need no network, side by side with a critic's."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.view import view_edit
from editcritic.server.training.defects import INJECTIONS, inject
from editcritic.server.training.evaluation import SEVERITIES, Job, build_case
from editcritic.server.training.report import wilson
from editcritic.server.training.suites.asking import hidden_source
from editcritic.server.training.suites.baselines import Baseline, make_baselines
from editcritic.server.training.suites.fills import HELD_OUT_FILLS
from editcritic.server.training.suites.preference import textured_stroke
from editcritic.server.training.suites.results import Figure, SuiteResult
from editcritic.v1.images import decode_file

__all__ = ["baseline_result"]


def baseline_result(jobs: Sequence[Job]) -> SuiteResult:
    """Original against fills, and two severities of one kind, by every baseline; the photographs are its training."""
    photos = [decode_file(job.photo.read_bytes()) for job in jobs]
    baselines = make_baselines(photos)
    fills: dict[str, list[bool]] = defaultdict(list)
    orders: dict[str, list[bool]] = defaultdict(list)
    for job, photo in zip(jobs, photos, strict=True):
        for name, baseline in baselines.items():
            fills[name] += _prefers(baseline, photo, job)
            orders[name] += _orders(baseline, job)
    figures = []
    for name in baselines:
        for what, hits in (("original over fills", fills[name]), ("severities in order", orders[name])):
            share = wilson(sum(hits), len(hits))
            figures.append(Figure(f"{name}: {what}", share.value, share.count, share.low, share.high))
    return SuiteResult("baselines", "How far do scores without a network come on the same cases?", figures)


def _prefers(baseline: Baseline, photo: NDArray[np.uint8], job: Job) -> list[bool]:
    mask = textured_stroke(photo, job.seed)
    view = view_edit(DecodedEdit("baseline", hidden_source(photo, mask), mask))
    hole = (mask > 0).astype(np.uint8)
    original = baseline(view, photo)
    return [original > baseline(view, fill(photo, hole)) for fill in HELD_OUT_FILLS.values()]


def _orders(baseline: Baseline, job: Job) -> list[bool]:
    case = build_case(job)
    view = view_edit(DecodedEdit("baseline", case.source, case.mask))
    hits = []
    for name, injection in INJECTIONS.items():
        if injection.applies(case) and inject(case, name, max(SEVERITIES), job.seed + 7).visible:
            values = [
                baseline(view, inject(case, name, severity, job.seed + 7).candidate)
                for severity in SEVERITIES
            ]
            hits += [one > other for one, other in itertools.combinations(values, 2)]
    return hits
