"""How far a small, invisible perturbation can raise a score: what a search that follows the gradient would find.

Source: projected gradient ascent (Madry et al. 2018) on the network's own visual quality.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from editcritic.server.critics.network.critic import NetworkCritic
from editcritic.server.training.defects import inject
from editcritic.server.training.evaluation import Job, build_case
from editcritic.server.training.suites.asking import Asked
from editcritic.server.training.suites.results import Figure, SuiteResult

__all__ = ["robustness_result"]

_FAULT, _SEVERITY = "blur", 0.8
_STEPS = 8
_LEVELS = (1.0, 2.0, 4.0)


def robustness_result(critic: NetworkCritic, jobs: Sequence[Job]) -> SuiteResult:
    """Mean gain of visual quality of a blurred candidate at perturbations of up to 1, 2 and 4 levels."""
    gains: dict[float, list[float]] = {level: [] for level in _LEVELS}
    noise: dict[float, list[float]] = {level: [] for level in _LEVELS}
    for job in jobs:
        case = inject(build_case(job), _FAULT, _SEVERITY, job.seed)
        asked = Asked.about(critic, case.source, case.mask)
        before = asked.scores(case.candidate)["visual_quality"] or 0.0
        rng = np.random.default_rng(job.seed)
        for level in _LEVELS:
            attacked = critic.ascend(asked.prepared, case.candidate, level, _STEPS)
            gains[level].append((asked.scores(attacked)["visual_quality"] or 0.0) - before)
            random = case.candidate + case.mask[..., None] * rng.choice([-level, level], case.candidate.shape)
            shown = np.clip(np.round(random), 0, 255).astype(np.uint8)
            noise[level].append((asked.scores(shown)["visual_quality"] or 0.0) - before)
    figures = [
        Figure(f"mean gain, {kind} of {level:.0f} levels", float(np.mean(values[level])), len(jobs))
        for kind, values in (("gradient", gains), ("random noise", noise))
        for level in _LEVELS
    ]
    return SuiteResult(
        "adversarial",
        "How far does a perturbation inside the mask raise a blurred candidate's visual quality?",
        figures,
    )
