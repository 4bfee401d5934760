"""The original content against classical inpainting that no training used, with the source's inside hidden."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import Critic
from editcritic.server.training.defects.masks import draw_stroke
from editcritic.server.training.evaluation import Job
from editcritic.server.training.report import wilson
from editcritic.server.training.suites.asking import Asked, hidden_source
from editcritic.server.training.suites.fills import HELD_OUT_FILLS
from editcritic.server.training.suites.results import Figure, SuiteResult
from editcritic.v1.images import decode_file

__all__ = ["preference_result", "prefers_original", "textured_stroke"]

_AIM = 0.95
_TRIES = 16
_SCORES = ("naturalness", "harmony", "visual_quality")


def prefers_original(critic: Critic, jobs: Sequence[Job]) -> list[tuple[str, str, bool]]:
    """(fill, score, original preferred) for every photograph, fill and score."""
    found = []
    for job in jobs:
        photo = decode_file(job.photo.read_bytes())
        mask = textured_stroke(photo, job.seed)
        asked = Asked.about(critic, hidden_source(photo, mask), mask)
        original = asked.scores(photo)
        for name, fill in HELD_OUT_FILLS.items():
            filled = asked.scores(fill(photo, (mask > 0).astype(np.uint8)))
            for score in _SCORES:
                one, other = original[score], filled[score]
                found.append((name, score, one is not None and other is not None and one > other))
    return found


def preference_result(found: Sequence[tuple[str, str, bool]]) -> SuiteResult:
    """Shares by score and fill."""
    by_key: dict[str, list[bool]] = defaultdict(list)
    for fill, score, preferred in found:
        by_key[f"{score}, {fill}"].append(preferred)
        by_key[f"{score}, all fills"].append(preferred)
    figures = []
    for name, hits in by_key.items():
        share = wilson(sum(hits), len(hits))
        aimed = name.endswith("all fills") and not name.startswith("visual")
        figures.append(Figure(name, share.value, share.count, share.low, share.high, _AIM if aimed else None))
    return SuiteResult(
        "original against classical inpainting",
        "Free-form masks over textured places, the source's inside hidden: is the original content preferred?",
        figures,
    )


def textured_stroke(photo: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
    """The most textured of a few free-form strokes, (H, W) float32."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    texture = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2.0))
    shape = (photo.shape[0], photo.shape[1])
    strokes = [draw_stroke(shape, seed + i) for i in range(_TRIES)]
    return max(strokes, key=lambda mask: float((texture * mask).sum() / max(mask.sum(), 1.0)))
