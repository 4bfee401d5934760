"""How often the judge puts faults in order: `python -m editcritic.plugin.natural_statistics.measure --images DIR`.

Each photograph gives one edit: its perfect answer, and every injected fault mildly and severely. What is ordered is
known without labels: perfect over faulty, and mild over severe. Crops and masks are those of `bench loop`, or with
`--whole` those of `editcritic eval`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.natural_statistics.judge import NaturalStatistics
from editcritic.refine.tabletop.world import crop_photo, draw_mask
from editcritic.server.training.defects import INJECTIONS, EditCase, clean_control, inject
from editcritic.server.training.evaluation import Job, build_case, list_jobs
from editcritic.server.training.report import wilson
from editcritic.v1.errors import InvalidInput

__all__ = ["MILD", "SEVERE", "Order", "main", "orders", "table"]

MILD, SEVERE = 0.3, 0.8


class Order(NamedTuple):
    """Scores of one fault in one edit."""

    fault: str
    perfect: float
    mild: float
    severe: float


def orders(job: Job, whole: bool = False) -> list[Order]:
    """The scores of every fault that can show in the edit of this job; none when its mask is too small to be judged."""
    case, judge = build_case(job) if whole else _small_case(job), NaturalStatistics()

    def score(fault: str, severity: float) -> float:
        return judge.judge(case.source, inject(case, fault, severity, job.seed + 7).candidate, case.mask)

    try:
        perfect = judge.judge(case.source, case.candidate, case.mask)
    except InvalidInput:
        return []
    faults = [name for name in INJECTIONS if _shows(case, name, job.seed)]
    return [Order(name, perfect, score(name, MILD), score(name, SEVERE)) for name in faults]


def _small_case(job: Job) -> EditCase:
    rng = np.random.default_rng(job.seed)
    photo, donor = (_crop(file, rng) for file in (job.photo, job.donor))
    return clean_control(photo, donor, draw_mask(rng).astype(np.float32), job.seed)


def _crop(file: Path, rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.round(crop_photo(Image.open(file).convert("RGB"), rng) * 255).astype(np.uint8)


def _shows(case: EditCase, fault: str, seed: int) -> bool:
    return INJECTIONS[fault].applies(case) and inject(case, fault, SEVERE, seed + 7).visible


def table(found: Iterable[Order]) -> str:
    """For each fault, how often the order is right, with 95 % intervals, as Markdown."""
    by_fault: dict[str, list[Order]] = defaultdict(list)
    for each in found:
        by_fault[each.fault].append(each)
    lines = [
        "| fault | edits | perfect over mild | perfect over severe | mild over severe |",
        "|---|---|---|---|---|",
    ]
    for fault, rows in by_fault.items():
        right = [
            _share([each.perfect > each.mild for each in rows]),
            _share([each.perfect > each.severe for each in rows]),
            _share([each.mild > each.severe for each in rows]),
        ]
        lines.append(f"| `{fault}` | {len(rows)} | {' | '.join(right)} |")
    return "\n".join(lines)


def _share(hits: list[bool]) -> str:
    share = wilson(sum(hits), len(hits))
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]".replace("%", " %", 1)


def main(arguments: list[str] | None = None) -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of photographs that nothing was fitted to"
    )
    parser.add_argument("--limit", type=int, default=0, help="most photographs; 0 for all")
    parser.add_argument("--whole", action="store_true", help="edit whole photographs, not crops of 128 px")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    jobs = list_jobs(options.images, limit=options.limit, seed=options.seed)
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        print(
            table(order for found in pool.map(partial(orders, whole=options.whole), jobs) for order in found)
        )


if __name__ == "__main__":
    main()
