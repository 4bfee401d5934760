"""Readers of one engine's previews, learned from answers that were recorded part-way and finished.

What the network sees in previews and finished answers is looked at once; after that a fit takes seconds. Only
naturalness and harmony are learned: prompt alignment has a head of its own, whose word about an early preview no
regression on this much material bettered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.network.critic import NetworkCritic
from editcritic.server.critics.network.forecast import FORECAST, PreviewReaders
from editcritic.server.training.recorded_previews import RecordedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput

__all__ = ["PreviewSamples", "fit_readers", "look_at_previews", "out_of_fold", "rank_correlations"]

_RIDGE = 1000.0
"""By cross-validation over edits, from 300 to 3000, all three within .01 of rank correlation."""
_FOLDS = 5
_LEAST_EDITS = 20


@dataclass(frozen=True, eq=False)
class PreviewSamples:
    """N candidates, R previews of each.

    Attributes:
        shares: (R,) of the steps, rising.
        edits: (N,) int; number of the edit that each belongs to.
        features: (N, R, D); see `preview_features`.
        finals: (N, S) scores of the finished candidates; see `FORECAST`.
        alignment: (N, R + 1) prompt alignment of each preview and of the finished candidate; NaN where abstained.
    """

    shares: NDArray[np.float64]
    edits: NDArray[np.int64]
    features: NDArray[np.float64]
    finals: NDArray[np.float64]
    alignment: NDArray[np.float64]


def look_at_previews(
    critic: NetworkCritic, edits: Sequence[RecordedEdit], told: Callable[[int, int], None] | None = None
) -> PreviewSamples:
    """What the network makes of recorded previews and of what they became.

    Edits on whose finished answers the critic abstains are left out.

    Raises:
        InvalidInput: there is nothing to learn from, or the edits' shares differ.
    """
    numbers: list[int] = []
    kept: list[_Seen] = []
    for number, edit in enumerate(edits):
        if not np.array_equal(edit.shares, edits[0].shares):
            raise InvalidInput(
                f"edit {edit.name} was recorded at other shares of the steps than the first one"
            )
        seen = [_look(critic, edit, pictures) for pictures in edit.pictures]
        if not any(np.isnan(each.final).any() for each in seen):
            numbers += [number] * len(seen)
            kept += seen
        if told is not None:
            told(number + 1, len(edits))
    if not kept:
        raise InvalidInput("there are no recorded previews that the critic judges")
    return PreviewSamples(
        np.asarray(edits[0].shares, np.float64),
        np.array(numbers),
        np.stack([each.features for each in kept]),
        np.stack([each.final for each in kept]),
        np.stack([each.alignment for each in kept]),
    )


def fit_readers(samples: PreviewSamples) -> PreviewReaders:
    """Readers of these previews, with deviations from five-fold cross-validation over edits.

    Raises:
        InvalidInput: fewer than twenty edits.
    """
    count = len(np.unique(samples.edits))
    if count < _LEAST_EDITS:
        raise InvalidInput(f"{count} edits were recorded; readers of previews need at least {_LEAST_EDITS}")
    everything = np.ones(len(samples.edits), np.bool_)
    parts = [_ridge(samples, everything, place) for place in range(len(samples.shares))]
    centre, scale, weights, bias = (np.stack(each) for each in zip(*parts, strict=True))
    off = samples.finals[:, None] - out_of_fold(samples)
    off = np.concatenate([off, (samples.alignment[:, -1:] - samples.alignment[:, :-1])[..., None]], -1)
    squares = _within(off, samples.edits) ** 2
    residual = np.sqrt(np.nansum(squares, 0) / np.maximum(1, (~np.isnan(squares)).sum(0)))
    return PreviewReaders(samples.shares, centre, scale, weights, bias, residual)


def out_of_fold(samples: PreviewSamples) -> NDArray[np.float64]:
    """(N, R, S) forecasts by readers that learned from other edits only."""
    place_of = {edit: place for place, edit in enumerate(np.unique(samples.edits).tolist())}
    folds = np.array([place_of[edit] % _FOLDS for edit in samples.edits.tolist()])
    found = np.empty((*samples.features.shape[:2], samples.finals.shape[1]))
    for fold in range(_FOLDS):
        for place in range(len(samples.shares)):
            centre, scale, weights, bias = _ridge(samples, folds != fold, place)
            seen = np.clip((samples.features[folds == fold, place] - centre) / scale, -5, 5)
            found[folds == fold, place] = seen @ weights + bias
    return np.clip(found, 0.0, 100.0)


def rank_correlations(samples: PreviewSamples) -> list[float]:
    """Mean rank correlation (Spearman) within an edit of forecast and final visual quality, share by share.

    By cross-validation, over edits of at least four candidates; NaN when there is none.
    """
    from scipy.stats import spearmanr

    forecast, final = out_of_fold(samples).prod(-1), samples.finals.prod(-1)
    groups = [samples.edits == edit for edit in np.unique(samples.edits)]
    large = [group for group in groups if group.sum() >= 4 and np.ptp(final[group]) > 0]
    found = [
        [spearmanr(forecast[group, place], final[group])[0] for group in large]
        for place in range(forecast.shape[1])
    ]
    return [float(np.mean(each)) if each else float("nan") for each in found]


def _ridge(samples: PreviewSamples, learnt: NDArray[np.bool_], place: int) -> tuple[NDArray[np.float64], ...]:
    features, finals = samples.features[learnt, place], samples.finals[learnt]
    centre, scale = features.mean(0), features.std(0) + 1e-3
    seen = np.clip((features - centre) / scale, -5, 5)
    seen_mean, bias = seen.mean(0), finals.mean(0)
    seen = seen - seen_mean
    gram = seen.T @ seen + _RIDGE * np.eye(seen.shape[1])
    weights = np.linalg.solve(gram, seen.T @ (finals - bias))
    return centre, scale, weights, bias - seen_mean @ weights


def _within(off: NDArray[np.float64], edits: NDArray[np.int64]) -> NDArray[np.float64]:
    """What is left of errors (N, ...) once each edit's own mean is taken out; NaN for edits of one candidate."""
    left = np.full_like(off, np.nan)
    for edit in np.unique(edits):
        group = edits == edit
        if (count := int(group.sum())) > 1:
            left[group] = (off[group] - off[group].mean(0)) * np.sqrt(count / (count - 1))
    return left


class _Seen(NamedTuple):
    """One answer: features (R, D), scores (S,) of the finished one, alignment (R + 1,)."""

    features: NDArray[np.float64]
    final: NDArray[np.float64]
    alignment: NDArray[np.float64]


def _look(critic: NetworkCritic, edit: RecordedEdit, pictures: NDArray[np.uint8]) -> _Seen:
    opened = DecodedEdit(edit.name, edit.source, edit.mask, edit.blend, edit.prompt)
    prepared = critic.prepare(opened)
    features = [
        critic.features(prepared, each, share) for each, share in zip(pictures, edit.shares, strict=False)
    ]
    finished = DecodedCandidate("candidate", pictures[-1])
    (answer,) = critic.critique(
        [CritiqueTask(opened, prepared, finished, pb.CritiqueOptions())], lambda: False
    )
    if isinstance(answer, EditCriticError):
        raise answer
    final = np.array([_value(getattr(answer.scores, name)) for name in FORECAST])
    alignment = np.array([_value(critic.read_prompt(opened, each)) for each in pictures])
    return _Seen(np.stack(features), final, alignment)


def _value(score: pb.Score) -> float:
    return score.value if score.status == pb.SCORE_STATUS_SCORED else float("nan")
